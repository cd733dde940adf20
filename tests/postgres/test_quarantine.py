"""Blocks that are set aside: by those who hold the leases, for one version of one dataset, until somebody retries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import Fenced, JobConflict, NotFound, UnsupportedJobKind
from ampd_ray.metadb import jobs, leases, quarantine, workers
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.statuses import JobStatus
from tests.postgres.nodes import execute

WORK = JobDescriptor(dataset_namespace="_", dataset_name="eth_rpc", manifest_hash="a" * 64, end_block="100")
GROUP = f"_/eth_rpc@{'a' * 64}"
TOLD = [{"provider": "alchemy", "code": "DATA_FAULT", "message": "block 7: two receipts are missing", "host": "a.com"}]
ME = uuid4()


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[Connection]:
    """A session on a database where node one runs job 1 and holds the lease of revision 5."""
    async with db.session() as conn:
        await workers.register(conn, "one", {"implementation": "ampd-ray"})
        await jobs.schedule(db, WORK, "one")
        assert await jobs.transition(conn, 1, JobStatus.RUNNING, "one")
        await leases.acquire(conn, [5], 1, "one", ME)
        yield conn


async def put(db: Database, block: int, **changed: Any) -> None:
    holder: dict[str, Any] = {"epochs": {5: 1}, "incarnation": ME} | changed
    await quarantine.put(db, GROUP, block, TOLD, **holder)


async def test_a_block_is_kept_with_what_is_known_of_it(db: Database, conn: Connection) -> None:
    await put(db, 9)
    await put(db, 7)
    first, second = await quarantine.listed(conn, GROUP)
    assert (first.block, first.reason, first.provider) == (7, "block 7: two receipts are missing", "alchemy")
    assert (first.evidence, first.attempts, first.first_seen) == (TOLD, 1, first.last_seen)
    assert second.block == 9
    assert await quarantine.blocks(conn, GROUP) == [7, 9]
    assert await quarantine.blocks(conn, GROUP.replace("a@", "b@").replace("aaa", "bbb")) == []


async def test_set_aside_again_it_counts(db: Database, conn: Connection) -> None:
    await put(db, 7)
    await put(db, 7)
    (again,) = await quarantine.listed(conn, GROUP)
    assert again.attempts == 2
    assert again.first_seen < again.last_seen


@pytest.mark.parametrize("changed", [{"epochs": {5: 2}}, {"epochs": {5: 0}}, {"incarnation": uuid4()}])
async def test_who_does_not_hold_the_leases_sets_nothing_aside(
    db: Database, conn: Connection, changed: dict[str, Any]
) -> None:
    with pytest.raises(Fenced):
        await put(db, 7, **changed)
    assert await quarantine.blocks(conn, GROUP) == []


async def test_they_are_cleared(db: Database, conn: Connection) -> None:
    for block in (7, 8, 9):
        await put(db, block)
    assert await quarantine.clear(conn, GROUP) == 3
    assert await quarantine.blocks(conn, GROUP) == []


async def test_only_who_holds_the_leases_forgets_them(db: Database, conn: Connection) -> None:
    await put(db, 7)
    with pytest.raises(Fenced):
        await quarantine.forget(db, GROUP, epochs={5: 2}, incarnation=ME)
    assert await quarantine.blocks(conn, GROUP) == [7]
    assert await quarantine.forget(db, GROUP, epochs={5: 1}, incarnation=ME)
    assert await quarantine.blocks(conn, GROUP) == []


async def test_the_rows_of_jobs_count_their_holes(db: Database, conn: Connection) -> None:
    await put(db, 7)
    row = await jobs.get(conn, 1)
    assert row is not None
    assert row.holes == 1


async def end(conn: Connection) -> None:
    assert await jobs.transition(conn, 1, JobStatus.COMPLETED, "one")


async def test_a_job_that_has_ended_runs_once_more(db: Database, conn: Connection) -> None:
    await put(db, 7)
    await end(conn)
    assert await jobs.retry(db, 1, "one", quarantined=False) == 0
    row = await jobs.get(conn, 1)
    assert row is not None
    assert (row.status, row.holes, row.descriptor) == (JobStatus.SCHEDULED, 1, row.detail)


async def test_its_holes_are_asked_for_again_on_demand(db: Database, conn: Connection) -> None:
    await put(db, 7)
    await end(conn)
    assert await jobs.retry(db, 1, "one", quarantined=True) == 1
    assert await quarantine.blocks(conn, GROUP) == []


async def test_holes_beyond_what_the_job_does_now_stay_listed(db: Database, conn: Connection) -> None:
    """An earlier run of it went farther."""
    for block in (100, 101):
        await put(db, block)
    assert await jobs.transition(conn, 1, JobStatus.COMPLETED, "one")
    assert await jobs.retry(db, 1, "one", quarantined=True) == 1
    assert await quarantine.blocks(conn, GROUP) == [101]


async def test_a_job_at_work_is_left_alone(db: Database, conn: Connection) -> None:
    await put(db, 7)
    with pytest.raises(JobConflict, match="job 1 is RUNNING on one"):
        await jobs.retry(db, 1, "one", quarantined=True)
    assert await quarantine.blocks(conn, GROUP) == [7]


async def test_what_cannot_be_run_is_not_scheduled(db: Database, conn: Connection) -> None:
    with pytest.raises(NotFound):
        await jobs.retry(db, 2, "one", quarantined=True)
    await end(conn)
    await execute(db, """update job_events set detail = '{"kind": "materialize-derived"}'""")
    with pytest.raises(UnsupportedJobKind):
        await jobs.retry(db, 1, "one", quarantined=True)
    row = await jobs.get(conn, 1)
    assert row is not None
    assert row.status is JobStatus.COMPLETED
