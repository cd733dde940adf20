"""What a job makes of lost actors, bad blocks and rivals: every block once, or a clear end with nothing half done."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.errors import ActorLost, AmpdError, DataFault, OutOfMemory, ProviderUnreachable, ValueOverflow
from ampd_ray.materialize import passes, state
from ampd_ray.materialize.leaving import Leave
from ampd_ray.materialize.types import Extract, JobOutcome, Outcome, RangeTask, WriterOptions
from tests.fakes.bench import Bench, Run, failure, until

DONE = JobOutcome(Outcome.COMPLETED)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "FRUITLESS_PAUSE_SECS", 0.001)
    monkeypatch.setattr(state, "RETRY_SECS", 0.001)


# -- actors -----------------------------------------------------------------------------------------------------------


async def test_what_lost_extractors_had_is_extracted_again(bench: Bench) -> None:
    run = await bench.job(end_block="130")
    run.extractors.trouble.errors = [ActorLost("gone"), OutOfMemory("too much"), ActorLost("gone")]
    assert await run() == DONE
    assert run.extractors.trouble.fired == 3
    assert [each.number for each in run.writers.partitions] == [0]  # nothing was planned again for that
    await bench.assert_exactly_once(0, 130)


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_writer_that_leaves_commits_what_it_has_and_the_rest_is_planned_again(
    bench: Bench, at_once: bool
) -> None:
    run = await bench.job(end_block="199")

    async def leave(_: Extract) -> None:
        first = run.writers.handles[0]
        if not first.leaving.is_set():
            first.leave = Leave(0.0, 0.0, commit=0.0, gone=60.0) if at_once else first.leave
            first.leaving.set()
            await asyncio.sleep(0.05 if at_once else 0.0)

    async def leave_some_for_later(span: Span) -> None:
        if span.start > 0:
            await until(run.writers.handles[0].leaving.is_set)

    run.extractors.before_extract = leave_some_for_later
    run.writers.before_append = leave
    assert await run() == DONE
    assert len(run.writers.partitions) == 2
    assert [each.locations[0].epoch for each in run.writers.partitions] == [1, 1]  # nothing was lost
    if not at_once:
        assert sum(map(len, run.extractors.spans)) == 200  # each block once
    await bench.assert_exactly_once(0, 199)


async def test_what_a_lost_writer_had_is_planned_again_under_a_new_epoch(bench: Bench) -> None:
    bench.options = WriterOptions(segment_blocks=30)
    run = await bench.job(end_block="130")
    appends = 0

    async def lose_the_fourth(extract: Extract) -> None:
        nonlocal appends
        appends += 1
        if appends == 4:
            raise ActorLost("the writer died")

    run.writers.before_append = lose_the_fourth
    assert await run() == DONE
    assert appends > 4
    assert [each.locations[0].epoch for each in run.writers.partitions] == [1, 2]
    first, second = (each.spans for each in run.writers.partitions)
    assert first == (Span(0, 130),)
    assert second[0].start % 30 == 0  # what was committed stays
    await bench.assert_exactly_once(0, 130)


async def test_a_job_whose_writers_die_and_die_gives_up_for_a_while(bench: Bench) -> None:
    run = await bench.job(end_block="130")
    run.writers.trouble.errors = [ActorLost("the writer died")] * 100
    outcome = await run()
    assert failure(outcome)["step"] == "PARTITION_TASK"
    assert failure(outcome)["retryable"]
    assert len(run.writers.partitions) == passes.MAX_FRUITLESS_PASSES
    assert await bench.spans() == []
    assert bench.staged() == []


# -- extraction -------------------------------------------------------------------------------------------------------


async def test_transient_errors_of_the_provider_are_outlived(bench: Bench) -> None:
    run = await bench.job(end_block="130")
    run.extractors.trouble.errors = [ProviderUnreachable("away")] * 3
    assert await run() == DONE
    assert run.extractors.trouble.fired == 3
    await bench.assert_exactly_once(0, 130)


@pytest.mark.parametrize(
    ("error", "fired", "retryable"),
    [
        (DataFault("block 7: no receipts", block=7, provider="devnet"), 2, True),
        (ValueOverflow("block 7: too large", block=7), 1, False),
    ],
)
async def test_other_errors_end_the_job_with_the_block_and_the_cause(
    bench: Bench, error: AmpdError, fired: int, retryable: bool
) -> None:
    bench.settings["quarantine"] = False
    run = await bench.job(end_block="10")
    run.extractors.trouble.errors = [error] * 10
    facts = failure(await run())
    assert run.extractors.trouble.fired == fired
    assert (facts["step"], facts["cause"], facts["block"]) == ("PARTITION_TASK", error.code, 7)
    assert facts["retryable"] is retryable
    assert await bench.query("select 1 from file_metadata") == []
    assert bench.staged() == []


# -- other writers ----------------------------------------------------------------------------------------------------


async def test_blocks_that_another_committed_first_are_dropped_and_the_rest_planned_again(bench: Bench) -> None:
    """Somebody who holds the same leases is faster with blocks 0 to 29."""
    bench.options = WriterOptions(segment_blocks=40)
    run = await bench.job(end_block="130")
    rival = bench.again(run.spec)
    raced = asyncio.Event()

    async def let_the_rival_win(extract: Extract) -> None:
        if not raced.is_set():
            raced.set()
            await commit_elsewhere(rival, run, Span(0, 29))

    run.writers.before_append = let_the_rival_win
    assert await run() == DONE
    assert raced.is_set()
    assert [each.spans[0] for each in run.writers.partitions] == [Span(0, 130), Span(30, 130)]
    assert await bench.spans() == [(0, 29), (30, 69), (70, 109), (110, 130)]
    await bench.assert_exactly_once(0, 130)


async def commit_elsewhere(rival: Run, run: Run, span: Span) -> None:
    """Commit ``span`` with the leases of ``run``'s first partition."""
    partition = replace(run.writers.partitions[0], spans=(span,))
    _, extract = await rival.extractors.extract(RangeTask(run.id, 0, span, TABLES, "devnet", "devnet"))
    report = await (await rival.writers.open(partition)).append(extract)
    assert len(report.committed) == 3


@pytest.mark.parametrize("how", ["epoch", "incarnation", "node", "status"])
async def test_who_was_fenced_commits_nothing(bench: Bench, how: str) -> None:
    statements = {
        "epoch": "update ampd_ray.location_lease set epoch = epoch + 1",
        "incarnation": "update ampd_ray.location_lease set incarnation = gen_random_uuid()",
        "node": "update jobs_status set node_id = 'worker-2'",
        "status": "update jobs_status set status = 'STOPPED'",
    }
    bench.options = WriterOptions(segment_blocks=30)
    run = await bench.job(end_block="130")
    fences = 0

    async def fence_after_two_segments(span: Span) -> None:
        nonlocal fences
        if span.start >= 64:
            await until(lambda: sum(len(report.committed) for report in run.writers.reports) == 6)
            fences += await bench.execute(statements[how])

    run.extractors.before_extract = fence_after_two_segments
    outcome = await run()
    assert outcome.outcome is Outcome.FENCED
    assert fences >= 1
    assert await bench.spans() == [(0, 29), (30, 59)]
    assert bench.staged() == []


async def test_names_of_one_epoch_are_not_used_in_another(bench: Bench) -> None:
    run = await bench.job(end_block="60")
    assert await run() == DONE
    (first,) = await bench.query("select file_name from file_metadata where metadata ->> 'table' = 'blocks'")
    assert await bench.execute("delete from file_metadata") == 3
    assert await bench.again(run.spec)() == DONE
    (second,) = await bench.query("select file_name from file_metadata where metadata ->> 'table' = 'blocks'")
    assert first.file_name != second.file_name
    await bench.assert_exactly_once(0, 60)


async def test_spans_of_a_pass_never_overlap(bench: Bench) -> None:
    bench.settings["unit_blocks"] = 20
    run = await bench.job(end_block="130", max_writers=3)
    run.extractors.trouble.errors = [ActorLost("gone")] * 4
    assert await run() == DONE
    spans = sorted(run.extractors.spans)
    assert all(a.end < b.start for a, b in pairwise(spans))
    assert merge(spans) == [Span(0, 130)]
    assert len(run.writers.partitions) == 7
