"""Which blocks a plan looks at, and what it concludes from them: on populations that are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.client.planning.strata import RUN_BLOCKS, Estimate, Stratum, choose, reaching, together, total

FIRST = 1000
Population = Callable[[Random, int], list[float]]

gaps = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=8)


def estimated(values: Sequence[float], samples: int = 64) -> Estimate:
    """What a sample says of blocks with these values."""
    strata = choose([Span(FIRST, FIRST + len(values) - 1)], samples)
    counts = [sum(values[number - FIRST] for number in range(s.run.start, s.run.end + 1)) for s in strata]
    return total([len(s) for s in strata], [len(s.run) for s in strata], counts)


def noise(rng: Random, sigma: float) -> float:
    return math.exp(rng.gauss(0, sigma) - sigma * sigma / 2)


def alike(rng: Random, blocks: int) -> list[float]:
    return [100 * noise(rng, 0.5) for _ in range(blocks)]


def rising(rng: Random, blocks: int) -> list[float]:
    return [math.exp(6 * at / blocks) * noise(rng, 0.4) for at in range(blocks)]


def stepped(rng: Random, blocks: int) -> list[float]:
    return [(10 if at < 0.7 * blocks else 300) * noise(rng, 0.4) for at in range(blocks)]


def periodic(rng: Random, blocks: int) -> list[float]:
    return [100 * (1 + 0.8 * math.sin(2 * math.pi * at / 9)) for at in range(blocks)]


def wandering(rng: Random, blocks: int) -> list[float]:
    values, level = [], 0.0
    for _ in range(blocks):
        level = 0.98 * level + rng.gauss(0, 0.2)
        values.append(100 * math.exp(0.5 * level))
    return values


def sparse(rng: Random, blocks: int) -> list[float]:
    return [3.0 * (rng.random() < 0.05) for _ in range(blocks)]


@pytest.mark.parametrize("population", [alike, rising, stepped, periodic, wandering, sparse])
def test_nine_intervals_in_ten_hold_the_true_total(population: Population) -> None:
    """Of 100 chains each; some per cent less where a few strata have nearly all there is."""
    held, ratios = 0, []
    for seed in range(100):
        values = population(Random(seed), 2000 + seed)
        found = estimated(values)
        held += found.low <= sum(values) <= found.high
        ratios.append(found.value / sum(values))
    assert 78 <= held <= 99
    assert sum(ratios) / 100 == pytest.approx(1, abs=0.1)


def test_a_steady_trend_is_in_the_estimate_and_not_in_the_spread() -> None:
    values = [float(at) for at in range(6400)]
    found = estimated(values)
    assert found.value == pytest.approx(sum(values), rel=0.01)
    assert found.high / found.low < 1.05
    assert found.low <= sum(values) <= found.high


def test_what_nobody_saw_may_be_there_all_the_same() -> None:
    found = estimated([0.0] * 6400)
    assert (found.value, found.low) == (0, 0)
    assert 100 < found.high < 400  # one in 28 blocks would have been missed one time in ten


def test_blocks_that_are_all_alike_are_no_proof() -> None:
    found = estimated([5.0] * 6400)
    assert found.value == 32_000
    assert found.low < 32_000 < found.high


def test_who_looked_at_all_blocks_knows() -> None:
    values = [float(at * at) for at in range(40)]
    assert estimated(values) == Estimate.exactly(sum(values))


def test_the_first_and_the_last_block_stand_for_themselves_alone() -> None:
    strata = choose([Span(0, 99_999)], 64)
    assert strata[0] == Stratum((Span(0, 0),), Span(0, 0))
    assert strata[-1] == Stratum((Span(99_999, 99_999),), Span(99_999, 99_999))
    genesis = [8893.0, *([1.0] * 6399)]  # rows of allocations, say
    assert estimated(genesis).value == pytest.approx(8893 + 6399)


@given(gaps, st.integers(2, 80))
def test_strata_are_what_is_missing_and_their_runs_lie_in_them(lengths: list[tuple[int, int]], samples: int) -> None:
    spans, start = [], 0
    for gap, length in lengths:
        spans.append(Span(start + gap, start + gap + length - 1))
        start += gap + length
    strata = choose(spans, samples)
    assert merge(span for stratum in strata for span in stratum.blocks) == merge(spans)
    assert sum(map(len, strata)) == sum(map(len, spans))
    for stratum in strata:
        assert any(stratum.run.start in span and stratum.run.end in span for span in stratum.blocks)
    assert sum(len(stratum.run) for stratum in strata) <= max(2 + RUN_BLOCKS, samples)
    assert choose(spans, samples) == strata


def test_a_stratum_that_was_not_looked_at_is_like_the_nearest() -> None:
    strata = choose([Span(0, 9999)], 10)
    assert reaching(strata, [True, False, False, True, True, False]) == [0, 0, 3, 3, 4, 4]


def test_estimates_add_up_and_blur() -> None:
    some = Estimate.about(100, 0.1)
    assert some.spread == pytest.approx(0.1)
    both = together([some, Estimate.exactly(50)])
    assert (both.value, both.low) == (150, some.low + 50)
    assert some.blurred(0.1).spread == pytest.approx(0.1 * math.sqrt(2), rel=0.01)
    assert some.times(2).plus(1) == Estimate(201, 2 * some.low + 1, 2 * some.high + 1)
    assert Estimate(0, 0, 10).blurred(0.5) == Estimate(0, 0, 10)
