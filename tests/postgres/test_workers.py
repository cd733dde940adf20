"""The node lock, the registry, the heartbeat and the node lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from ampd_ray.metadb import workers
from ampd_ray.metadb.connection import Connection, Database

INFO = {"implementation": "ampd-ray", "failover_group": "one"}


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[Connection]:
    async with db.session() as conn:
        yield conn


async def scalar(conn: Connection, query: str) -> Any:
    row = await (await conn.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


async def test_one_session_at_a_time_holds_a_node_under_amps_key(db: Database, conn: Connection) -> None:
    async with db.session() as other:
        assert await workers.holder(conn, "worker") is None
        assert await workers.try_lock(conn, "worker")
        assert await workers.try_lock(conn, "worker")
        assert not await workers.try_lock(other, "worker")
        assert await workers.try_lock(other, "worker-2")
        assert not (await (await other.execute("select pg_try_advisory_lock(-6371845282884086942)")).fetchone())[0]  # type: ignore[index]
        seen, own = await workers.holder(other, "worker"), await workers.holder(conn, "worker")
    assert seen is not None
    assert own is not None
    assert (seen.pid, seen.application_name, seen.same_role) == (conn.info.backend_pid, "ampd-ray/test", True)
    assert not seen.ours
    assert own.ours


async def test_the_lock_of_another_database_is_no_lock_of_ours(db: Database, conn: Connection, pg_url: str) -> None:
    async with Database(
        pg_url.replace(str(await scalar(conn, "select current_database()")), "postgres")
    ).session() as far:
        assert await workers.try_lock(far, "worker")
        assert await workers.holder(conn, "worker") is None
        assert await workers.try_lock(conn, "worker")


async def test_the_lock_ends_with_its_session(db: Database, conn: Connection) -> None:
    async with db.session() as other:
        assert await workers.try_lock(other, "worker")
    async with asyncio.timeout(10):
        while not await workers.try_lock(conn, "worker"):
            pass


async def test_registering_again_keeps_the_creation_time_only(conn: Connection) -> None:
    await workers.register(conn, "one", {"version": "0.1"})
    (first,) = await workers.list_workers(conn)
    assert first.info == {"version": "0.1"}
    assert first.alive
    assert first.created_at == first.registered_at == first.heartbeat_at
    await workers.register(conn, "one", INFO)
    (again,) = await workers.list_workers(conn)
    assert again.info == INFO
    assert again.created_at == first.created_at
    assert again.registered_at == again.heartbeat_at > first.heartbeat_at


async def test_times_are_utc_by_the_database_clock(conn: Connection) -> None:
    await workers.register(conn, "one", INFO)
    assert abs(await scalar(conn, "select extract(epoch from clock_timestamp() - heartbeat_at) from workers")) < 5


async def test_a_beat_counts_for_five_seconds(conn: Connection) -> None:
    assert not await workers.beat(conn, "one")
    await workers.register(conn, "one", INFO)
    await conn.execute("update workers set heartbeat_at = now() - interval '5.1 s'")
    assert [worker.alive for worker in await workers.list_workers(conn)] == [False]
    assert await workers.alive(conn) == []
    assert not await workers.is_alive(conn, "one")
    assert await workers.is_registered(conn, "one")
    assert await workers.beat(conn, "one")
    assert await workers.is_alive(conn, "one")
    assert [worker.node_id for worker in await workers.alive(conn)] == ["one"]
    assert not await workers.is_alive(conn, "two")
    assert not await workers.is_registered(conn, "two")


async def test_each_start_gets_a_higher_epoch_and_fences_the_one_before(conn: Connection) -> None:
    first, second = uuid4(), uuid4()
    assert await workers.take_node_lease(conn, "one", first) == 1
    assert await workers.renew_node_lease(conn, "one", first)
    assert await workers.take_node_lease(conn, "one", second) == 2
    assert not await workers.renew_node_lease(conn, "one", first)
    assert not await workers.release_node_lease(conn, "one", first)
    assert await workers.renew_node_lease(conn, "one", second, ttl=timedelta(seconds=9))
    assert 8 < await scalar(conn, "select extract(epoch from expires_at - now()) from ampd_ray.node_lease") <= 9


async def test_a_drained_node_is_dead_and_then_released(conn: Connection) -> None:
    incarnation = uuid4()
    await workers.register(conn, "one", INFO)
    await workers.take_node_lease(conn, "one", incarnation)
    assert await workers.retire(conn, "one", incarnation)
    (worker,) = await workers.list_workers(conn)
    assert (worker.alive, worker.draining) == (False, True)
    assert await scalar(conn, "select extract(epoch from now() - heartbeat_at) from workers") >= 10
    assert await scalar(conn, "select expires_at > now() from ampd_ray.node_lease")
    assert await workers.release_node_lease(conn, "one", incarnation)
    assert await scalar(conn, "select expires_at <= now() and draining from ampd_ray.node_lease")


async def test_a_start_ends_the_draining(conn: Connection) -> None:
    incarnation = uuid4()
    await workers.register(conn, "one", INFO)
    await workers.take_node_lease(conn, "one", incarnation)
    await workers.retire(conn, "one", incarnation)
    await workers.take_node_lease(conn, "one", uuid4())
    await workers.register(conn, "one", INFO)
    assert [worker.node_id for worker in await workers.alive(conn)] == ["one"]


async def test_a_fenced_process_cannot_retire_its_successor(conn: Connection) -> None:
    old = uuid4()
    await workers.take_node_lease(conn, "one", old)
    await workers.take_node_lease(conn, "one", uuid4())
    await workers.register(conn, "one", INFO)
    assert not await workers.retire(conn, "one", old)
    assert [worker.node_id for worker in await workers.alive(conn)] == ["one"]


async def test_an_amp_worker_under_an_old_id_of_ours_is_not_draining(conn: Connection) -> None:
    incarnation = uuid4()
    await workers.take_node_lease(conn, "one", incarnation)
    await workers.retire(conn, "one", incarnation)
    await workers.register(conn, "one", {"version": "amp"})
    assert [worker.node_id for worker in await workers.alive(conn)] == ["one"]


async def test_workers_are_listed_with_the_jobs_they_have_in_hand(conn: Connection) -> None:
    await workers.register(conn, "one", INFO)
    await workers.register(conn, "zwölf", INFO)  # Amp accepts such an id
    for key, status in enumerate(["SCHEDULED", "running", "STOPPING", "COMPLETED", "FATAL", "odd"]):
        await conn.execute("insert into jobs (node_id, idempotency_key) values ('one', %s)", [str(key)])
        await conn.execute(
            "insert into jobs_status (job_id, node_id, status) select max(id), 'one', %s from jobs", [status]
        )
    assert [(worker.node_id, worker.active_jobs) for worker in await workers.list_workers(conn)] == [
        ("one", 3),
        ("zwölf", 0),
    ]
