"""A node's identity on a real server: lock, lease, registration, beat, and what happens when the session is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from ampd_ray.errors import Fenced, NodeInUse
from ampd_ray.metadb import workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.workers import WorkerRow
from ampd_ray.node.counters import Counters
from ampd_ray.node.heartbeat import Heartbeat
from ampd_ray.node.identity import Identity
from ampd_ray.node.leases import LeaseKeeper
from tests.postgres.nodes import NODE, cut_sessions, execute, until

INFO = {"implementation": "ampd-ray", "failover_group": "here", "version": "0"}
SHORT = timedelta(seconds=0.5)


@asynccontextmanager
async def heartbeat(pg_url: str, **kwargs: Any) -> AsyncIterator[Heartbeat]:
    identity = Identity(NODE, uuid4(), INFO)
    db = Database(pg_url, application_name=identity.session_name)
    counters = Counters()
    keeper = LeaseKeeper(identity.incarnation, counters)
    beating = Heartbeat(db, identity, counters, keeper, **{"lock_timeout": SHORT, **kwargs})
    try:
        yield beating
    finally:
        await beating.release()


async def row(db: Database) -> WorkerRow:
    async with db.connection() as conn:
        (found,) = await workers.list_workers(conn)
    return found


async def test_a_node_is_registered_and_beats(pg_url: str, db: Database) -> None:
    async with heartbeat(pg_url) as node:
        await node.start()
        first = await row(db)
        assert (first.node_id, first.alive, first.draining) == (NODE, True, False)
        assert first.info == INFO
        running = asyncio.create_task(node.run())
        await until(lambda: node.counters.beats >= 2)
        assert (await row(db)).heartbeat_at > first.heartbeat_at
        await node.release()
        await running


async def test_a_second_process_is_refused_and_changes_nothing(pg_url: str, db: Database) -> None:
    async with heartbeat(pg_url) as first, heartbeat(pg_url) as second:
        await first.start()
        before = await row(db)
        with pytest.raises(NodeInUse, match="'worker-1' is in use"):
            await second.start()
        assert await row(db) == before
        assert NodeInUse.exit_code == 3


async def test_a_busy_lock_is_waited_for(pg_url: str, db: Database) -> None:
    async with heartbeat(pg_url) as first, heartbeat(pg_url, lock_timeout=timedelta(seconds=20)) as second:
        await first.start()
        starting = asyncio.create_task(second.start())
        await until(lambda: second.counters.lock_waits)
        await first.release()
        await starting


@asynccontextmanager
async def left_behind(pg_url: str, db: Database, name: str, lease: str) -> AsyncIterator[None]:
    """A session called ``name`` that holds the node's lock, as after its process lost the network."""
    old = Database(pg_url, application_name=name)
    session = await old.connect_session()
    assert await workers.try_lock(session, NODE)
    async with db.connection() as conn:
        await workers.take_node_lease(conn, NODE, uuid4())
    await execute(db, "update ampd_ray.node_lease set expires_at = now() + %s::interval", lease)
    try:
        yield
    finally:
        await session.close()


async def test_a_dead_session_of_the_node_is_ended(pg_url: str, db: Database) -> None:
    name = Identity(NODE, uuid4(), INFO).session_name
    async with left_behind(pg_url, db, name, "1 s"), heartbeat(pg_url, lock_timeout=timedelta(seconds=60)) as node:
        await asyncio.wait_for(node.start(), 10)
        assert node.counters.lock_waits


@pytest.mark.parametrize(
    ("name", "lease"),
    [
        ("ampd-ray/worker-1/0123", "1 min"),  # it renews: it lives
        ("ampd-ray/worker-10/0123", "-1 s"),
        ("ampd-ray/worker-1", "-1 s"),
        ("amp", "-1 s"),
    ],
)
async def test_a_session_that_may_be_alive_is_left_alone(pg_url: str, db: Database, name: str, lease: str) -> None:
    async with left_behind(pg_url, db, name, lease), heartbeat(pg_url) as node:
        with pytest.raises(NodeInUse):
            await node.start()


async def test_a_name_that_postgres_cut_proves_nothing(pg_url: str, db: Database) -> None:
    node_id = "w" * 60
    name = Identity(node_id, uuid4(), INFO).session_name
    old = Database(pg_url, application_name=name)
    async with old.session() as session, db.connection() as conn:
        assert await workers.try_lock(session, node_id)
        await workers.take_node_lease(conn, node_id, uuid4(), timedelta(0))
        holder = await workers.holder(conn, node_id)
        assert holder is not None
        assert not await workers.end_dead_session(conn, node_id, holder)


async def test_a_lost_session_is_replaced_and_the_node_goes_on(pg_url: str, db: Database) -> None:
    async with heartbeat(pg_url) as node:
        await node.start()
        running = asyncio.create_task(node.run())
        await until(lambda: node.counters.beats)
        assert await cut_sessions(db) == 1
        await until(lambda: node.counters.session_reconnects)
        seen = node.counters.beats
        await until(lambda: node.counters.beats > seen)
        async with heartbeat(pg_url) as other:
            with pytest.raises(NodeInUse):  # the lock is held again
                await other.start()
        await node.release()
        await running


async def test_a_deleted_row_is_registered_again(pg_url: str, db: Database) -> None:
    async with heartbeat(pg_url) as node:
        await node.start()
        running = asyncio.create_task(node.run())
        await execute(db, "delete from workers")
        await until(lambda: node.counters.registrations == 2)
        assert (await row(db)).alive
        await node.release()
        await running


async def test_another_incarnation_fences_the_node(pg_url: str, db: Database) -> None:
    async with heartbeat(pg_url) as node:
        await node.start()
        async with db.connection() as conn:
            await workers.take_node_lease(conn, NODE, uuid4())
        with pytest.raises(Fenced, match="worker-1"):
            await node.run()


async def test_a_lock_lost_to_another_process_fences_the_node(pg_url: str, db: Database) -> None:
    """An Amp worker takes the lock and knows nothing of our lease: only time tells."""
    async with heartbeat(pg_url) as node, db.session() as amp:
        await node.start()
        waiting = asyncio.create_task(amp.execute(b"select pg_advisory_lock(hashtextextended('worker-1', 0))"))
        await until(lambda: execute(db, "select 1 from pg_locks where locktype = 'advisory' and not granted"))
        running = asyncio.create_task(node.run())
        await cut_sessions(db)
        await waiting
        with pytest.raises(Fenced):
            await running


async def test_a_retired_node_looks_dead_and_keeps_its_lease(pg_url: str, db: Database) -> None:
    async with heartbeat(pg_url) as node:
        await node.start()
        running = asyncio.create_task(node.run())
        await until(lambda: node.counters.beats)
        await node.retire()
        retired = await row(db)
        assert not retired.alive
        assert retired.draining
        beats = node.counters.beats
        await until(lambda: node.counters.beats > beats)
        assert (await row(db)).heartbeat_at == retired.heartbeat_at
        assert await execute(db, "select 1 from ampd_ray.node_lease where expires_at > now()")
        await node.release()
        await running
        assert await execute(db, "select 1 from ampd_ray.node_lease where expires_at <= now() and draining")


async def test_a_released_node_id_is_free_at_once(pg_url: str) -> None:
    async with heartbeat(pg_url) as first:
        await first.start()
        await first.release()
        async with heartbeat(pg_url) as second:
            await second.start()
