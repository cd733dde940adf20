"""Runs that end in the middle, and the next ones: what is committed stays, the rest follows, the goal is the same."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.errors import JobFailed
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb import jobs
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.bench import NODE, Bench, Run, until
from tests.fakes.heads import ScriptedHeads, head

DONE = JobOutcome(Outcome.COMPLETED)


async def cancel_in_the_middle(bench: Bench, run: Run) -> None:
    """Cancel after two segments, with rows in open files and tasks on their way."""

    async def hold(span: Span) -> None:
        if span.start >= 64:
            await asyncio.Event().wait()

    run.extractors.before_extract = hold
    running = asyncio.create_task(run())
    await until(lambda: sum(len(report.committed) for report in run.writers.reports) == 6)
    run.job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("same_process", [True, False])
async def test_a_cancelled_run_is_taken_up_where_it_was(bench: Bench, same_process: bool) -> None:
    bench.options = WriterOptions(segment_blocks=25)
    run = await bench.job(end_block="130")
    await cancel_in_the_middle(bench, run)
    assert await bench.spans() == [(0, 24), (25, 49)]
    assert bench.staged() == []
    if not same_process:
        bench.incarnation = uuid4()
    again = bench.again(run.spec)
    assert await again() == DONE
    assert merge(again.extractors.spans) == [Span(50, 130)]
    assert [each.locations[0].epoch for each in again.writers.partitions] == [2]
    await bench.assert_exactly_once(0, 130)


async def test_cancelled_again_and_again_it_comes_to_its_end(bench: Bench) -> None:
    bench.options = WriterOptions(segment_blocks=10)
    run = await bench.job(end_block="130", max_writers=2)
    bench.settings["unit_blocks"] = 40
    for commits in (1, 2, 3, 4):
        await cancel_after(bench.again(run.spec), commits)
    assert await bench.again(run.spec)() == DONE
    await bench.assert_exactly_once(0, 130)


async def cancel_after(run: Run, reports: int) -> None:
    running = asyncio.create_task(run())
    await until(lambda: len(run.writers.reports) > reports or running.done())
    run.job.cancel()
    await asyncio.wait({running})


async def test_a_failed_run_counts_until_something_is_committed(bench: Bench) -> None:
    run = await bench.job(end_block="130")
    async with bench.db.connection() as conn:
        await jobs.record_failure(conn, run.id, code="X", handling="transient", spread=1.0)
        assert await jobs.failures(conn, run.id) == 1
        assert await run() == DONE
        assert await jobs.failures(conn, run.id) == 0


# -- the end block, resolved once -------------------------------------------------------------------------------------


def with_head(bench: Bench, number: int) -> None:
    """Have the provider say that its head is block ``number``."""
    block = bench.devnet.chain.block(number)
    assert block is not None
    bench.settings["open_source"] = lambda provider, network: ScriptedHeads(head(number, block.hash))


@pytest.mark.parametrize(("end_block", "last"), [("latest", 100), ("-20", 80)])
async def test_what_the_end_meant_at_first_it_means_after_a_restart(bench: Bench, end_block: str, last: int) -> None:
    with_head(bench, 100)
    run = await bench.job(end_block=end_block)
    bench.options = WriterOptions(segment_blocks=25)
    run = bench.again(run.spec)
    await cancel_in_the_middle(bench, run)
    with_head(bench, 130)
    assert await bench.again(run.spec)() == DONE
    await bench.assert_exactly_once(0, last)
    assert (await bench.spans())[-1][1] == last


async def test_a_retry_after_an_error_has_the_same_end_but_a_new_request_another(bench: Bench) -> None:
    with_head(bench, 100)
    run = await bench.job(end_block="-10")
    run.extractors.trouble.errors = [JobFailed("no", step="X", retryable=False)]
    assert (await run()).outcome is Outcome.FAILED
    with_head(bench, 120)
    await bench.move(run.id, JobStatus.ERROR)
    assert await jobs.reschedule(bench.db, run.id, NODE)
    await bench.move(run.id, JobStatus.RUNNING)
    assert await bench.again(run.spec)() == DONE
    assert await bench.spans() == [(0, 90)]
    await bench.move(run.id, JobStatus.COMPLETED)
    await bench.complete(end_block="-10")
    assert await bench.spans() == [(0, 90), (91, 110)]


@pytest.mark.parametrize("status", [JobStatus.STOPPED, JobStatus.FATAL, JobStatus.COMPLETED])
async def test_amps_controller_asking_again_after_an_end_gets_the_head_of_then(bench: Bench, status: JobStatus) -> None:
    """It knows nothing of our rows, so that those of the earlier request are still there."""
    with_head(bench, 50)
    run = await bench.job(end_block="latest")
    assert await run() == DONE
    if status is JobStatus.STOPPED:
        assert await jobs.request_stop(bench.db, run.id)
        await bench.move(run.id, JobStatus.STOPPING)
    await bench.move(run.id, status)
    await bench.execute(
        "insert into job_events (job_id, node_id, event_type, detail)"
        " select job_id, node_id, event_type, detail from job_events where event_type = 'SCHEDULED'"
    )
    await bench.execute("update jobs_status set status = 'RUNNING'")
    assert await bench.query("select resolved_end from ampd_ray.job_state where resolved_end = 50") != []
    with_head(bench, 70)
    assert await bench.again(run.spec)() == DONE
    assert await bench.spans() == [(0, 50), (51, 70)]


@pytest.mark.parametrize(
    ("end_block", "retryable", "words"),
    [("9", False, "end block 9, which lies before the start block 10"), ("-95", False, "block 5 at head 100")],
)
async def test_an_end_below_the_start(bench: Bench, end_block: str, retryable: bool, words: str) -> None:
    bench.manifest = evm_rpc_manifest("devnet", 10)
    with_head(bench, 100)
    outcome = await (await bench.job(end_block=end_block))()
    assert outcome.outcome is Outcome.FAILED
    assert outcome.error is not None
    assert (outcome.error.details["step"], outcome.error.retryable) == ("RESOLVE_END_BLOCK", retryable)
    assert words in str(outcome.error)
