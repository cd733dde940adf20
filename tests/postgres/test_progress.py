from __future__ import annotations

import pytest

from ampd_ray.metadb import progress
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.progress import JobProgress


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
        await conn.execute(
            """
            insert into workers (node_id, heartbeat_at) values ('one', now());
            insert into jobs (node_id, idempotency_key) values ('one', 'key');
            insert into jobs_status (job_id, node_id, status) values (1, 'two', 'RUNNING');
            """
        )
        await progress.report(conn, 1, "two", JobProgress(phase="plan"))
        await progress.report(conn, 1, "one", JobProgress(phase="wrong"))
        found = await progress.read(conn, 1)
    assert found is not None
    assert (found.node_id, found.progress.phase) == ("two", "plan")
