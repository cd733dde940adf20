"""From what was seen of a sample to the figures of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.client.planning.estimate import Estimator, Figures, Target, bill, without
from ampd_ray.client.planning.seen import Parquet, Run, Sample
from ampd_ray.client.planning.strata import Estimate, Stratum, choose
from ampd_ray.providers.provider import Price

WHOLE = Span(0, 9999)
TARGET = Target(
    writers=1,
    segment_bytes=2 << 30,
    row_group_bytes=64 << 20,
    flush_secs=600.0,
    memory_bytes=256 << 20,
    per_minute=None,
    in_flight=1024,
    extractors=2,
    cores=2,
    begin_secs=2.0,
)
PARQUET = Parquet(once=1000.0, per_byte=0.25, spread=0.05, secs_per_byte=1e-9)


def seen(strata: Sequence[Stratum], receipts_a_block: int = 1) -> Sample:
    """Of a chain whose block ``n`` has ``n`` logs of 10 bytes each, and two transactions."""
    sample = Sample(cpu_secs=0.1, cpu_bytes=100_000)
    for at, stratum in enumerate(strata):
        blocks, numbers = len(stratum.run), range(stratum.run.start, stratum.run.end + 1)
        sample.runs[at] = Run(
            span=stratum.run,
            rows={"blocks": blocks, "logs": sum(numbers)},
            arrow_bytes={"blocks": 700 * blocks, "logs": 10 * sum(numbers)},
            receipt_calls=receipts_a_block * blocks,
            wire_bytes=1000 * blocks,
            fetch_secs=0.02,
        )
    return sample


def figures(
    missing: Mapping[str, Sequence[Span]], sample: Sample | None = None, strata: Sequence[Stratum] | None = None
) -> Figures:
    chosen = strata or choose([WHOLE], 64)
    parquet = dict.fromkeys(missing, PARQUET)
    return Estimator(missing, chosen, sample or seen(chosen), parquet).figures(TARGET, (1, 2, 4))


def both(*logs: Span) -> dict[str, list[Span]]:
    return {"blocks": [WHOLE], "logs": list(logs or (WHOLE,))}


def test_the_figures_of_a_chain_that_grows() -> None:
    found = figures(both())
    assert found.rows["blocks"] == Estimate.exactly(10_000)
    assert found.rows["logs"].value == pytest.approx(sum(range(10_000)), rel=0.02)
    assert found.wire_bytes.value == pytest.approx(10_000_000)
    assert found.calls["eth_getBlockReceipts"].value == 10_000
    assert found.requests.value == 20_000
    arrow = 700 * 10_000 + 10 * sum(range(10_000))
    assert found.parquet_bytes.value == pytest.approx(0.25 * arrow, rel=0.05)
    assert found.parquet_bytes.spread > found.rows["logs"].spread
    assert [pace.extractors for pace in found.times] == [2, 1, 2, 4]
    assert [pace.here for pace in found.times] == [True, False, False, False]


def test_a_table_is_counted_where_it_lacks_blocks() -> None:
    found = figures(both(Span(5000, 9999)))
    assert found.blocks == 10_000
    assert found.rows["logs"].value == pytest.approx(sum(range(5000, 10_000)), rel=0.02)


def test_a_run_stands_for_its_neighbours_that_were_not_looked_at() -> None:
    strata = choose([WHOLE], 64)
    sample = seen(strata)
    for at in range(3, len(strata), 2):
        del sample.runs[at]
    found = figures(both(), sample, strata)
    assert found.blocks == 10_000
    assert found.rows["logs"].value == pytest.approx(sum(range(10_000)), rel=0.06)


def test_what_nobody_serves_is_not_counted() -> None:
    strata = without(choose([WHOLE], 64), [Span(0, 2499)])
    sample = seen(strata)
    for at in [at for at, run in sample.runs.items() if run.span.start < 2500]:
        del sample.runs[at]
    served = Span(2500, 9999)
    found = figures({"blocks": [served], "logs": [served]}, sample, strata)
    assert found.blocks == found.calls["eth_getBlockByNumber"].value == 7500
    assert found.rows["logs"].value == pytest.approx(sum(range(2500, 10_000)), rel=0.02)


def test_batches_take_fewer_requests() -> None:
    strata = choose([WHOLE], 64)
    found = figures(both(), replace(seen(strata), batch_size=20), strata)
    assert found.requests.value == pytest.approx(1000, rel=0.05)
    one_by_one = replace(seen(strata, receipts_a_block=2), batch_size=20, per_transaction=True)
    found = figures(both(), one_by_one, strata)
    assert found.calls["eth_getTransactionReceipt"].value == 20_000
    assert found.requests.value == pytest.approx(1500, rel=0.05)


def test_without_a_machine_of_its_own_nothing_is_said_of_here() -> None:
    strata = choose([WHOLE], 64)
    estimator = Estimator(both(), strata, seen(strata), dict.fromkeys(("blocks", "logs"), PARQUET))
    found = estimator.figures(replace(TARGET, cores=None), (1, 8))
    assert [pace.here for pace in found.times] == [False, False]


def test_on_a_busy_machine_it_takes_longer_and_nobody_knows_how_long() -> None:
    strata = choose([WHOLE], 64)
    quiet, *others = figures(both(), seen(strata), strata).times
    busy, *same = figures(both(), replace(seen(strata), crowding=3.0), strata).times
    assert busy.seconds.value > quiet.seconds.value
    assert busy.seconds.spread > 2 * quiet.seconds.spread
    assert same == others


def test_the_bill_is_what_calls_cost() -> None:
    calls = {"eth_getBlockByNumber": Estimate.exactly(1000), "eth_getBlockReceipts": Estimate(900, 800, 1000)}
    price = Price(units={"eth_getBlockByNumber": 16, "default": 20}, per_million_units=0.5)
    units, cost = bill(calls, price)
    assert (units.value, units.low, units.high) == (34_000, 32_000, 36_000)
    assert cost.value == pytest.approx(0.017)
