"""Where files end (``spec/data.md`` 4.4), and that all tables end there at once."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.materialize import passes
from ampd_ray.materialize.state import JobState
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.providers.evm_rpc import EvmRpcSource
from tests.fakes.bench import Bench, until

DONE = JobOutcome(Outcome.COMPLETED)


async def test_no_file_holds_both_final_and_unfinal_blocks(bench: Bench) -> None:
    run = await bench.job(end_block="latest")
    assert await run() == DONE
    assert await bench.spans() == [(0, 136), (137, 200)]
    await bench.assert_exactly_once(0, 200)


async def test_a_file_ends_at_the_extract_that_fills_it(bench: Bench) -> None:
    bench.options = WriterOptions(segment_bytes=20_000)
    run = await bench.job(end_block="130")
    assert await run() == DONE
    spans = await bench.spans()
    assert len(spans) > 2
    ends = {span.end for span in run.extractors.spans}
    assert {end for _, end in spans} <= ends
    await bench.assert_exactly_once(0, 130)


async def test_a_file_holds_no_more_blocks_than_it_may(bench: Bench) -> None:
    bench.options = WriterOptions(segment_blocks=25)
    assert await (await bench.job(end_block="99"))() == DONE
    assert await bench.spans() == [(0, 24), (25, 49), (50, 74), (75, 99)]
    await bench.assert_exactly_once(0, 99)


async def test_each_pass_knows_what_the_one_before_it_has_measured(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[tuple[float | None, float | None]] = []

    class Told(JobState):
        def __init__(self, *args: Any, **told: Any) -> None:
            known.append((told["bytes_per_block"], told["secs_per_block"]))
            super().__init__(*args, **told)

    monkeypatch.setattr(passes, "JobState", Told)
    bench.settings["unit_blocks"] = 50
    assert await (await bench.job(end_block="120"))() == DONE
    (first, second) = known
    assert first == (None, None)
    assert all(second)


async def test_an_open_file_is_committed_by_age_though_no_block_arrives(bench: Bench) -> None:
    bench.settings["flush_secs"] = 0.05
    run = await bench.job(end_block="120")
    gate = asyncio.Event()

    async def hold_all_but_the_first(span: Span) -> None:
        if span.start > 0:
            await gate.wait()

    run.extractors.before_extract = hold_all_but_the_first
    running = asyncio.create_task(run())
    await until(bench.spans)
    assert await bench.spans() == [(0, 15)]  # what the only extract held, while the others are on their way
    gate.set()
    assert await running == DONE
    await bench.assert_exactly_once(0, 120)


async def test_a_stop_commits_what_is_complete_in_order_or_not(bench: Bench) -> None:
    run = await bench.job(end_block="120")

    async def hold_the_third_and_the_last_ones(span: Span) -> None:
        if span.start == 32 or span.start > 48:
            await asyncio.Event().wait()

    run.extractors.before_extract = hold_the_third_and_the_last_ones
    running = asyncio.create_task(run())
    await until(lambda: len(run.writers.reports) == 3)
    assert sum(len(report.appended) for report in run.writers.reports) == 2  # one came early
    await run.job.stop(5.0)
    assert await running == JobOutcome(Outcome.STOPPED)
    assert await bench.spans() == [(0, 31), (48, 63)]
    assert await bench.again(run.spec)() == DONE
    await bench.assert_exactly_once(0, 120)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_stop_without_an_open_file_commits_nothing(bench: Bench, when: str) -> None:
    run = await bench.job(end_block="120")
    if when == "before":
        await run.job.stop(5.0)
        assert await run() == JobOutcome(Outcome.STOPPED)
        assert await bench.spans() == []
    else:
        assert await run() == DONE
        await run.job.stop(5.0)
        assert await bench.spans() == [(0, 120)]


@pytest.mark.parametrize("call", ["start", "head"])
async def test_a_stop_does_not_wait_for_a_silent_provider(bench: Bench, call: str) -> None:
    asked = asyncio.Event()

    async def never_answers(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    def source(name: str, network: str) -> EvmRpcSource:
        made = bench.source(name, network)
        setattr(made, call, never_answers)
        return made

    bench.settings["open_source"] = source
    run = await bench.job(end_block="120")
    running = asyncio.create_task(run())
    await asked.wait()
    await run.job.stop(60.0)
    assert await asyncio.wait_for(running, 10) == JobOutcome(Outcome.STOPPED)


async def test_the_tables_of_a_segment_appear_in_one_transaction(bench: Bench) -> None:
    bench.options = WriterOptions(segment_blocks=40)
    assert await (await bench.job(end_block="119"))() == DONE
    rows = await bench.query(
        "select (f.metadata #>> '{ranges,0,numbers,start}')::int as start, f.metadata ->> 'table' as name,"
        " f.xmin::text as file, c.xmin::text as footer, s.xmin::text as segment"
        " from file_metadata f join footer_cache c on c.file_id = f.id join ampd_ray.segment s on s.file_id = f.id"
    )
    by_start = {start: [row for row in rows if row.start == start] for start in (0, 40, 80)}
    for found in by_start.values():
        assert {row.name for row in found} == set(TABLES)
        assert len({xmin for row in found for xmin in (row.file, row.footer, row.segment)}) == 1
    transactions = [found[0].file for found in by_start.values()]
    assert all(a != b for a, b in pairwise(transactions))
    assert await bench.query("select 1 from ampd_ray.file_intent") == []


async def test_a_stop_does_not_wait_for_a_provider_that_does_not_answer(bench: Bench) -> None:
    class Silent:
        asked = asyncio.Event()

        async def start(self) -> None:
            self.asked.set()
            await asyncio.Event().wait()

        async def close(self) -> None: ...

    bench.settings["open_source"] = lambda provider, network: Silent()
    run = await bench.job(end_block="120")
    running = asyncio.create_task(run())
    await Silent.asked.wait()
    await run.job.stop(5.0)
    assert await running == JobOutcome(Outcome.STOPPED)
