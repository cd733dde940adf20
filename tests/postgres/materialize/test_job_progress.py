"""What others see of a job: notifications in its commits, its row of progress."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from ampd_ray.datasets.manifest import TABLES
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb import notifications, progress
from ampd_ray.metadb.progress import JobProgress
from tests.fakes.bench import Bench, Run, until
from tests.fakes.heads import ScriptedHeads, head


async def shown(bench: Bench, run: Run) -> JobProgress:
    async with bench.db.connection() as conn:
        found = await progress.read(conn, run.id)
    assert found is not None
    assert found.node_id == run.spec.node_id
    return found.progress


async def test_each_commit_notifies_of_each_table_once_when_the_rows_are_there(bench: Bench) -> None:
    bench.options = WriterOptions(segment_blocks=40)
    run = await bench.job(end_block="99")
    heard: list[tuple[str, int]] = []
    ready = asyncio.Event()

    async def hear() -> None:
        async with aclosing(notifications.listen(bench.db.connect_session, notifications.CHANGE_TRACKING)) as messages:
            async for message in messages:
                if isinstance(message, notifications.Reconnected):
                    ready.set()
                    continue
                files = "select count(*) as files from file_metadata where location_id = %s"
                (row,) = await bench.query(files, int(message.payload))
                heard.append((message.payload, row.files))

    listening = asyncio.create_task(hear())
    await ready.wait()
    assert await run() == JobOutcome(Outcome.COMPLETED)
    await until(lambda: len(heard) == 9)
    listening.cancel()
    locations = {str(revision.location_id) for revision in (await bench.revisions()).values()}
    assert {payload for payload, _ in heard} == locations
    for at, (payload, files) in enumerate(heard):
        assert files > [before for before, _ in heard[:at]].count(payload)


async def test_the_row_is_right_at_the_end(bench: Bench) -> None:
    bench.options = WriterOptions(segment_blocks=40)
    run = await bench.job(end_block="130", max_writers=2)
    assert await run() == JobOutcome(Outcome.COMPLETED)
    row = await shown(bench, run)
    assert (row.phase, row.blocks_done, row.blocks_total, row.limiting_factor) == ("completed", 131, 131, None)
    assert row.rows_by_table == {table: (await bench.rows(table)).num_rows for table in TABLES}
    assert row.rows == sum(row.rows_by_table.values())
    (files,) = await bench.query("select sum(object_size)::bigint as bytes from file_metadata")
    assert row.bytes == files.bytes
    assert row.rpc_requests >= 131
    assert (row.retries, row.eta_secs) == (0, None)


async def test_what_was_done_adds_up_over_time_and_runs(bench: Bench) -> None:
    run = await bench.job(end_block="130")
    assert await run() == JobOutcome(Outcome.COMPLETED)
    row = await shown(bench, run)
    assert await bench.again(run.spec)() == JobOutcome(Outcome.COMPLETED)  # nothing is left to do
    async with bench.db.connection() as conn:
        rates = await progress.history(conn, run.id)
    assert sum(rate.blocks for rate in rates) == 131
    assert sum(rate.rows for rate in rates) == row.rows
    assert sum(rate.requests for rate in rates) == row.rpc_requests
    assert all(rate.secs > 0 for rate in rates)


async def test_a_run_that_takes_up_another_counts_on_from_there(bench: Bench) -> None:
    await bench.complete(end_block="90")
    run = await bench.complete(end_block="130")
    row = await shown(bench, run)
    assert (row.blocks_done, row.blocks_total) == (131, 131)
    assert row.rows_by_table["blocks"] == 40  # of this run


async def test_the_row_of_a_job_that_stopped_or_failed_says_so(bench: Bench) -> None:
    run = await bench.job(end_block="130")
    await run.job.stop(1.0)
    assert (await run()).outcome is Outcome.STOPPED
    assert (await shown(bench, run)).phase == "stopped"
    bench.urls = {"devnet": "http://127.0.0.1:9"}
    again = bench.again(run.spec)
    assert (await again()).outcome is Outcome.FAILED
    assert (await shown(bench, again)).phase == "failed"


async def test_a_job_without_an_end_shows_how_far_it_is(bench: Bench) -> None:
    block = bench.devnet.chain.block(120)
    assert block is not None
    bench.settings["open_source"] = lambda provider, network: ScriptedHeads(head(120, block.hash))
    run = await bench.job()
    running = asyncio.create_task(run())
    await until(lambda: run.job.meter.phase == "waiting")
    await run.job.stop(1.0)
    assert (await running).outcome is Outcome.STOPPED
    row = await shown(bench, run)
    assert (row.blocks_done, row.blocks_total) == (121, None)


async def test_the_progress_of_amps_server_follows_from_the_rows(bench: Bench) -> None:
    """It adds up the canonical files of the active revisions that the job writes."""
    run = await bench.complete(end_block="130")
    rows = await bench.query(
        "select t.table_name, max((f.metadata #>> '{ranges,0,numbers,end}')::int) as last, count(*) as files"
        " from physical_table_revisions r join physical_tables t on t.active_revision_id = r.id"
        " join file_metadata f on f.location_id = r.id where r.writer = %s group by 1",
        run.id,
    )
    assert {row.table_name: (row.last, row.files) for row in rows} == dict.fromkeys(TABLES, (130, 1))
