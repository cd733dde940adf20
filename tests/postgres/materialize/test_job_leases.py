"""What a job does about its leases: waits for them, pauses without them, ends when they are another's, lets them go."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

import pytest

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.errors import AmpdError, Fenced
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb import leases
from tests.fakes.bench import NODE, Bench, Run, until
from tests.fakes.leases import UnkeptLeases

DONE = JobOutcome(Outcome.COMPLETED)
HELD = "select location_id from ampd_ray.location_lease where expires_at > now()"


@pytest.fixture
def keeper(bench: Bench) -> UnkeptLeases:
    bench.settings["keeper"] = made = UnkeptLeases()
    return made


async def leave_leases(bench: Bench, run: Run, life: str) -> None:
    """As a process that ran this job before and was killed."""
    assert await run() == DONE
    again = "update ampd_ray.location_lease set incarnation = %s, expires_at = now() + %s::interval"
    assert await bench.execute(again, uuid4(), life) == 3


async def progress(bench: Bench) -> Any:
    rows = await bench.query("select phase, limiting_factor from ampd_ray.job_progress")
    return tuple(rows[0]) if rows else None


async def holds_at(bench: Bench, run: Run, block: int) -> asyncio.Task[JobOutcome]:
    """Run until the extraction of ``block`` is asked for, which never ends; what came before is committed."""
    bench.options = WriterOptions(segment_blocks=16)
    reached = asyncio.Event()

    async def hold(span: Span) -> None:
        if span.start >= block:
            reached.set()
            await asyncio.Event().wait()

    run.extractors.before_extract = hold
    running = asyncio.create_task(run())
    await asyncio.wait_for(reached.wait(), 20)
    return running


# -- before it starts -------------------------------------------------------------------------------------------------


async def test_a_killed_predecessors_leases_are_waited_for_no_longer_than_they_last(bench: Bench) -> None:
    run = await bench.job(end_block="30")
    await leave_leases(bench, run, "2 s")
    started = time.monotonic()
    again = bench.again(run.spec)
    running = asyncio.create_task(again())
    await until(lambda: _equals(progress(bench), ("waiting", "lease")))
    assert await running == DONE
    assert 1.5 < time.monotonic() - started < 4
    rows = await bench.query("select epoch, node_id from ampd_ray.location_lease")
    assert {(row.epoch, row.node_id) for row in rows} == {(2, NODE)}


async def _equals(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)


async def test_a_job_that_waits_for_its_leases_can_be_stopped(bench: Bench) -> None:
    run = await bench.job(end_block="30")
    await leave_leases(bench, run, "1 min")
    again = bench.again(run.spec)
    running = asyncio.create_task(again())
    await until(lambda: _equals(progress(bench), ("waiting", "lease")))
    await again.job.stop(5)
    assert await running == JobOutcome(Outcome.STOPPED)
    assert len(await bench.query(HELD)) == 3  # another's are left alone


async def test_a_job_that_moved_while_it_waited_is_fenced(bench: Bench) -> None:
    run = await bench.job(end_block="30")
    await leave_leases(bench, run, "1 min")
    running = asyncio.create_task(bench.again(run.spec)())
    await until(lambda: _equals(progress(bench), ("waiting", "lease")))
    await bench.execute("update jobs_status set node_id = 'worker-2'")
    outcome = await running
    assert outcome.outcome is Outcome.FENCED
    assert len(await bench.query(HELD)) == 3


# -- while it runs ----------------------------------------------------------------------------------------------------


async def test_without_good_leases_nothing_is_extracted_and_afterwards_it_goes_on(
    bench: Bench, keeper: UnkeptLeases
) -> None:
    run = await bench.job(end_block="130")
    run.extractors._tasks = 1
    go_on = asyncio.Event()

    async def hold(span: Span) -> None:
        if span.start > 0:
            await go_on.wait()

    run.extractors.before_extract = hold
    running = asyncio.create_task(run())
    await until(lambda: len(run.extractors.spans) == 2)
    keeper.holders[run.id].lapsed()
    await until(lambda: _equals(progress(bench), ("extracting", "lease")))
    asked = list(run.extractors.spans)
    go_on.set()
    await until(lambda: sum(len(report.appended) for report in run.writers.reports) == len(asked))
    assert run.extractors.spans == asked
    keeper.holders[run.id].renewed()
    assert await running == DONE
    assert merge(run.extractors.spans) == [Span(0, 130)]
    assert sum(map(len, run.extractors.spans)) == 131  # nothing twice
    assert [each.locations[0].epoch for each in run.writers.partitions] == [1]
    await bench.assert_exactly_once(0, 130)


async def test_a_pass_that_begins_without_good_leases_waits(bench: Bench, keeper: UnkeptLeases) -> None:
    bench.settings["unit_blocks"] = 40
    run = await bench.job(end_block="130")

    async def lapse(span: Span) -> None:
        if span.start == 32:  # the last of the first pass
            keeper.holders[run.id].lapsed()

    run.extractors.before_extract = lapse
    running = asyncio.create_task(run())
    await until(lambda: _equals(progress(bench), ("extracting", "lease")))
    asked = list(run.extractors.spans)
    run.extractors.before_extract = None
    keeper.holders[run.id].renewed()
    assert await running == DONE
    assert run.extractors.spans[: len(asked)] == asked
    await bench.assert_exactly_once(0, 130)


async def test_a_job_whose_lease_is_lost_ends_at_once_and_writes_nothing(bench: Bench, keeper: UnkeptLeases) -> None:
    run = await bench.job(end_block="130")
    running = await holds_at(bench, run, 64)
    error = Fenced("the lease of revision 1 was taken by another")
    await bench.execute("update ampd_ray.location_lease set epoch = epoch + 1, incarnation = %s", uuid4())
    keeper.holders[run.id].lost(error)
    assert await running == JobOutcome(Outcome.FENCED, error)
    assert len(await bench.query(HELD)) == 3
    assert bench.staged() == []
    (row,) = await bench.query("select status from jobs_status")
    assert row.status == "RUNNING"
    assert await progress(bench) != ("fenced", None)


# -- at its end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["completed", "stopped", "cancelled", "failed"])
async def test_every_end_lets_the_leases_go(bench: Bench, keeper: UnkeptLeases, end: str) -> None:
    run = await bench.job(end_block="130")
    if end == "completed":
        assert await run() == DONE
    elif end == "failed":
        run.extractors.trouble.errors = [AmpdError("no")]
        assert (await run()).outcome is Outcome.FAILED
    else:
        running = await holds_at(bench, run, 64)
        assert len(await bench.query(HELD)) == 3
        if end == "stopped":
            await run.job.stop(5)
        else:
            run.job.cancel()
        await asyncio.wait({running})
    assert await bench.query(HELD) == []
    assert keeper.holders == {}
    async with bench.db.connection() as conn:  # so that anybody may go on at once, under a higher epoch
        ids = [row.location_id for row in await bench.query("select location_id from ampd_ray.location_lease")]
        epochs = await leases.acquire(conn, ids, run.id, NODE, uuid4())
    assert set(epochs.values()) == {2}


async def test_a_job_that_fails_as_it_opens_lets_them_go_too(bench: Bench) -> None:
    await bench.complete(end_block="30")
    for path in (await bench.paths("logs")).values():
        path.unlink()
    run = await bench.job(end_block="60")
    assert (await run()).outcome is Outcome.FAILED
    assert await bench.query("select 1 from ampd_ray.location_lease where epoch = 2") != []
    assert await bench.query(HELD) == []
