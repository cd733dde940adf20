"""Spoiled answers of real nodes end in a typed error or in the rows of the reference decoder, never in anything else.

``AMPD_FUZZ_COUNT`` sets how many are tried; ``python -m tests.benchmarks.fuzz`` tries as many as one likes.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.judged import Judge, Verdict
from tests.mutants import KINDS, Seed, Step, mutant, seeds

COUNT = int(os.environ.get("AMPD_FUZZ_COUNT", "2000"))

steps = st.lists(
    st.builds(Step, st.integers(0, KINDS - 1), st.floats(0, 1, exclude_max=True), st.integers(0, 2**32 - 1)),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as made:
        yield made


@pytest.fixture(scope="module")
def recorded(chain_data: Path) -> list[Seed]:
    return seeds(chain_data)


def test_what_was_recorded_is_accepted(judge: Judge, recorded: list[Seed]) -> None:
    assert len(recorded) >= 20
    assert {judge.verdict(seed, mutant(seed, [])) for seed in recorded} == {Verdict.EQUAL}


def test_what_was_found_once_stays_mended(judge: Judge, recorded: list[Seed]) -> None:
    by_name = {seed.name: seed for seed in recorded}
    for name, found in json.loads((Path(__file__).parent / "rpc_corpus.json").read_text()):
        seed = by_name[name]
        assert judge.verdict(seed, mutant(seed, [Step(*step) for step in found])) is not Verdict.WRONG, (name, found)


def test_a_mutant_is_refused_or_read_as_the_reference_reads_it(judge: Judge, recorded: list[Seed]) -> None:
    seen: Counter[Verdict] = Counter()

    @settings(
        max_examples=COUNT,
        deadline=None,
        derandomize=COUNT == 2000,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.integers(0, len(recorded) - 1), steps)
    def try_one(which: int, spoiled_by: list[Step]) -> None:
        verdict = judge.verdict(recorded[which], mutant(recorded[which], spoiled_by))
        seen[verdict] += 1
        assert verdict is not Verdict.WRONG

    try_one()
    assert min(seen[Verdict.REFUSED], seen[Verdict.EQUAL]) > COUNT // 20
