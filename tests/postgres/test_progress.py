from __future__ import annotations

import pytest

from ampd_ray.metadb import jobs, progress
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.progress import JobProgress, JobRate
from tests.postgres.nodes import execute

ONE_JOB = """
insert into workers (node_id, heartbeat_at) values ('one', now());
insert into jobs (node_id, idempotency_key) values ('one', 'key');
insert into jobs_status (job_id, node_id, status) values (1, %s, %s);
"""


async def make_job(conn: Connection, node_id: str, status: str) -> None:
    for statement, values in zip(ONE_JOB.split(";"), ((), (), (node_id, status)), strict=False):
        await conn.execute(statement.encode(), values)


async def test_the_last_report_is_what_is_read(db: Database) -> None:
    full = JobProgress(
        phase="extract",
        blocks_done=10,
        blocks_total=100,
        rows=7,
        bytes=2**40,
        rpc_requests=30,
        retries=2,
        rate=12.5,
        limiting_factor="rpc",
        eta_secs=7.2,
        rows_by_table={"blocks": 3, "logs": 4},
        rows_rate=3e6,
        requests_rate=0.5,
    )
    async with db.connection() as conn:
        assert await progress.read(conn, 1) is None
        await progress.report(conn, 1, "one", JobProgress(phase="plan"))
        await progress.report(conn, 2, "two", JobProgress(phase="plan"))
        await progress.report(conn, 1, "one", full)
        found, other = await progress.read(conn, 1), await progress.read(conn, 2)
    assert found is not None
    assert found.node_id == "one"
    assert found.progress == full
    assert found.age_secs == pytest.approx(0, abs=5)
    assert other is not None
    assert other.progress == JobProgress(phase="plan")


async def test_a_node_that_has_lost_the_job_reports_nothing(db: Database) -> None:
    async with db.connection() as conn:
        await make_job(conn, "two", "RUNNING")
        await progress.report(conn, 1, "two", JobProgress(phase="plan"))
        await progress.report(conn, 1, "one", JobProgress(phase="wrong"))
        found = await progress.read(conn, 1)
    assert found is not None
    assert (found.node_id, found.progress.phase) == ("two", "plan")


async def test_the_rates_of_a_job_are_kept_in_their_order(db: Database) -> None:
    kept = [JobRate(5.0, 10, 2**40, 30, "rpc"), JobRate(5.5, 0, 0, 0), JobRate(0.25, 1, 2, 3, "head")]
    async with db.connection() as conn:
        assert await progress.history(conn, 1) == []
        assert await progress.recorded(conn, 1) == (0.0, 0)
        for rate in kept:
            await progress.record_rate(conn, 1, "one", rate)
        await progress.record_rate(conn, 2, "two", JobRate(5.0, 9, 9, 9))
        found = await progress.history(conn, 1)
        await execute(db, "update ampd_ray.job_rate set at = at - interval '100 seconds' where secs = 5.0")
        secs, samples = await progress.recorded(conn, 1)
    assert secs == pytest.approx(100, abs=5)
    assert samples == 3
    times = [rate.at for rate in found if rate.at is not None]
    assert times == sorted(times)
    assert len(times) == 3
    assert found == [
        JobRate(k.secs, k.blocks, k.rows, k.requests, k.limiting_factor, f.at) for k, f in zip(kept, found, strict=True)
    ]


async def test_a_node_that_has_lost_the_job_records_no_rate(db: Database) -> None:
    async with db.connection() as conn:
        await make_job(conn, "two", "RUNNING")
        await progress.record_rate(conn, 1, "two", JobRate(5.0, 1, 1, 1))
        await progress.record_rate(conn, 1, "one", JobRate(5.0, 2, 2, 2))
        assert [rate.blocks for rate in await progress.history(conn, 1)] == [1]


async def test_a_job_that_is_deleted_takes_its_progress_and_rates_along(db: Database) -> None:
    async with db.connection() as conn:
        await make_job(conn, "one", "COMPLETED")
        for job_id in (1, 2):
            await progress.report(conn, job_id, "one", JobProgress(phase="completed"))
            await progress.record_rate(conn, job_id, "one", JobRate(5.0, 1, 1, 1))
    await jobs.delete(db, 1)
    async with db.connection() as conn:
        assert await progress.read(conn, 1) is None
        assert await progress.history(conn, 1) == []
        assert len(await progress.history(conn, 2)) == 1


async def test_what_is_known_of_jobs_that_others_deleted_is_forgotten(db: Database) -> None:
    async with db.connection() as conn:
        await make_job(conn, "one", "RUNNING")
        for job_id in (1, 2):
            await progress.report(conn, job_id, "one", JobProgress(phase="extracting"))
            await progress.record_rate(conn, job_id, "one", JobRate(5.0, 1, 1, 1))
        await progress.forget_deleted_jobs(conn)
        assert [len(await progress.history(conn, job_id)) for job_id in (1, 2)] == [1, 0]
        assert await progress.read(conn, 1) is not None
        assert await progress.read(conn, 2) is None
