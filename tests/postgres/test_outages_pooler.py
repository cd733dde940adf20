"""A node behind a real PgBouncer in transaction mode: it says so, polls, lives by its lease, and does its work."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg.conninfo import make_conninfo

from ampd_ray.errors import DatabaseRefused, NodeInUse
from ampd_ray.materialize.types import WriterOptions
from ampd_ray.metadb import jobs, scheduling, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.notifications import supports_listen
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.bench import NODE, Bench
from tests.fakes.devnet import Devnet
from tests.fakes.pgbouncer import pgbouncer
from tests.postgres.nodes import Node, descriptor, execute, node, status, unstarted, until
from tests.postgres.works import works
from tests.servers import Server, fresh_database

S = JobStatus
FOUND_SECS = 6.5  # a pass each five seconds, more or less
SAID = "a pooler in transaction mode stands before the metadata database"


@pytest.fixture
def pg_url(embedded: Server) -> Iterator[str]:
    with fresh_database(embedded) as url:
        yield url


@pytest.fixture
def pooled_url(pg_url: str) -> Iterator[str]:
    """The database through PgBouncer as it comes: it takes no session options."""
    with pgbouncer(pg_url) as url:
        yield url


@pytest.fixture
async def bench(db: Database, tmp_path: Path, devnet: Devnet) -> AsyncIterator[Bench]:
    made = Bench(db, tmp_path, devnet, options=WriterOptions(segment_blocks=20))
    yield made
    await made.close()


@asynccontextmanager
async def polling_node(url: str, directory: Path, **ours: Any) -> AsyncIterator[Node]:
    """A node that has found out that it has to poll, and has begun to."""
    async with unstarted(url, directory, **ours) as running:
        running.start()
        counters = running.coordinator.counters
        await until(lambda: running.ended or (counters.beats and counters.reconciles))
        assert not running.ended
        assert running.coordinator.watcher.polling
        yield running


async def becomes(db: Database, job_id: int, wanted: JobStatus) -> None:
    async def there() -> bool:
        return await status(db, job_id) is wanted

    await until(there)


async def test_a_whole_job_behind_a_pooler(
    bench: Bench, pooled_url: str, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    job = await bench.job(end_block="199")
    async with works(bench, pooled_url, NODE) as running:
        await becomes(db, job.id, S.COMPLETED)
        beats = running.coordinator.counters.beats
        await until(lambda: running.coordinator.counters.beats > beats)
        (row,) = await execute(db, "select info, now() - heartbeat_at < interval '2 s' as beats from workers")
        assert (row.info["sessions"], row.beats) == ("pooled", True)
        leases = await execute(db, "select node_id, expires_at > now() as held from ampd_ray.node_lease")
        assert [tuple(lease) for lease in leases] == [(NODE, True)]
        # A lock would stay with the pooler when the node has gone.
        assert await execute(db, "select 1 from pg_locks where locktype = 'advisory'") == []
        assert running.coordinator.counters.listens == 0
    assert caplog.text.count(SAID) == 1
    await bench.assert_exactly_once(0, 199)


async def test_a_job_is_found_and_stopped_without_notifications(pooled_url: str, db: Database, tmp_path: Path) -> None:
    async with polling_node(pooled_url, tmp_path) as running:
        scheduled = time.monotonic()
        job_id = await jobs.schedule(db, descriptor(), NODE)
        await running.one_job()
        assert time.monotonic() - scheduled < FOUND_SECS
        stopped = time.monotonic()
        assert await scheduling.request_stop(db, job_id)
        await becomes(db, job_id, S.STOPPED)
        assert time.monotonic() - stopped < FOUND_SECS
        assert running.coordinator.counters.notifications == 0


async def test_one_process_of_a_node_lives_behind_a_pooler_too(
    pg_url: str, pooled_url: str, db: Database, tmp_path: Path
) -> None:
    async with polling_node(pooled_url, tmp_path) as first:
        async with unstarted(pooled_url, tmp_path) as second:
            second.start()
            with pytest.raises(NodeInUse):
                await second.code()
        first.coordinator.ask_drain()
        assert await first.code() == 0
    async with polling_node(pooled_url, tmp_path) as next_one:  # free at once
        assert next_one.coordinator.counters.lock_waits == 0
        # A direct session proves by its lock that it is the one.
        async with node(pg_url, tmp_path) as direct:
            assert await next_one.code() == 3
            async with unstarted(pooled_url, tmp_path) as late:
                late.start()
                with pytest.raises(NodeInUse):
                    await late.code()
            assert not direct.ended


async def test_a_process_that_died_behind_a_pooler_has_its_node_for_the_rest_of_its_lease(
    pooled_url: str, db: Database, tmp_path: Path
) -> None:
    async with db.connection() as conn:
        await workers.take_node_lease(conn, NODE, uuid4(), timedelta(seconds=2))
    async with polling_node(pooled_url, tmp_path, node_lock_timeout_secs=20) as running:
        assert running.coordinator.counters.lock_waits in (1, 2, 3)


@pytest.mark.parametrize(
    ("settings", "direct"),
    [
        ({}, False),
        ({"ignore_startup_parameters": "options", "server_round_robin": 1}, False),
        ({"default_pool_size": 1}, False),
        ({"pool_mode": "session"}, True),
    ],
    ids=["as it comes", "options ignored, servers in turn", "one server", "session mode"],
)
async def test_what_kind_of_pooler_it_is_is_found_out(pg_url: str, settings: dict[str, Any], direct: bool) -> None:
    with pgbouncer(pg_url, **settings) as url:
        assert await supports_listen(Database(url)) is direct


async def test_sessions_behind_a_pooler_speak_utc_though_it_takes_no_options(
    pg_url: str, pooled_url: str, db: Database
) -> None:
    name = (await execute(db, "select current_database() as name"))[0].name
    await execute(db, f"alter database {name} set timezone = 'Asia/Tokyo'")
    pooled = Database(pooled_url, application_name="ampd-ray/a-node/1")
    await pooled.open()
    try:
        async with pooled.transaction() as conn, pooled.transaction() as other:
            asked = "select current_setting('timezone') as zone, current_setting('application_name') as name"
            for each in (conn, other):
                row = await (await each.execute(asked)).fetchone()
                assert tuple(row or ()) == ("UTC", "ampd-ray/a-node/1")
    finally:
        await pooled.close()
    with pytest.raises(DatabaseRefused, match="refuses the options of the URL"):
        await Database(make_conninfo(pooled_url, options="-c work_mem=5MB")).connect_session()
