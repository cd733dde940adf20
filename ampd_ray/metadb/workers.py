"""Who works: the node lock, registration, heartbeat and node lease (``spec/metadata-db.md`` 4, 2.5).

The order at start is lock, node lease, register, beat. A node is alive when it has beaten within 5 s by the
database's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from ampd_ray.errors import Fenced
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.statuses import ACTIVE

_SQL: Final = load(__file__)

NODE_LEASE_LIFE: Final = timedelta(seconds=4)


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A registered node. ``active_jobs``: those that are not at an end; ``draining``: takes no more.

    ``ended``: it has drained and given itself up, until it registers again.
    """

    node_id: str
    heartbeat_at: datetime
    info: dict[str, Any]
    created_at: datetime
    registered_at: datetime
    alive: bool
    draining: bool
    ended: bool
    active_jobs: int


@dataclass(frozen=True, slots=True)
class Holder:
    """The database session that holds a Node ID; ``ours``: the very session that asks."""

    pid: int
    application_name: str
    same_role: bool
    ours: bool


async def try_lock(conn: Connection, node_id: str) -> bool:
    """Claim ``node_id`` for the life of ``conn``'s session; False while another session holds it.

    A session may take its own lock again.
    """
    row = await (await conn.execute(_SQL["try_lock"], {"node_id": node_id})).fetchone()
    return bool(row and row.locked)


async def holder(conn: Connection, node_id: str) -> Holder | None:
    """Who holds ``node_id``, None if nobody does."""
    async with conn.cursor(row_factory=class_row(Holder)) as cursor:
        return await (await cursor.execute(_SQL["holder"], {"node_id": node_id})).fetchone()


async def end_dead_session(conn: Connection, node_id: str, holder: Holder) -> bool:
    """End the session that holds ``node_id`` if it is provably a dead one of that node; False if it may be alive.

    A host that lost its network may leave one behind for as long as the server takes to notice. A Node ID so long that
    Postgres cut the session's name proves nothing.
    """
    row = await (await conn.execute(_SQL["end_dead_session"], {"node_id": node_id, "pid": holder.pid})).fetchone()
    return bool(row and row.ended)


async def end_lost_session(conn: Connection, holder: Holder) -> bool:
    """End the session that holds our Node ID if it bears the very name of ``conn``; False if it does not.

    The caller knows that the name is that of one process, and that this process has lost all its sessions with the
    lock: a server may keep one for as long as it takes to notice.
    """
    row = await (await conn.execute(_SQL["end_lost_session"], {"pid": holder.pid})).fetchone()
    return bool(row and row.ended)


async def take_free_node_lease(
    conn: Connection, node_id: str, incarnation: UUID, ttl: timedelta = NODE_LEASE_LIFE
) -> bool:
    """Make ``incarnation`` the one that runs ``node_id``, without a lock for life; False: another runs it.

    For sessions that a pooler shares, where only transactions hold a lock.
    """
    values = {"node_id": node_id, "incarnation": incarnation, "ttl": ttl}
    async with conn.transaction():
        row = await (await conn.execute(_SQL["is_unlocked"], values)).fetchone()
        if row is None or not row.unlocked:
            return False
        return (await conn.execute(_SQL["take_free_node_lease"], values)).rowcount == 1


async def take_node_lease(conn: Connection, node_id: str, incarnation: UUID, ttl: timedelta = NODE_LEASE_LIFE) -> int:
    """Make ``incarnation`` the one that runs ``node_id``; the new epoch. Only the holder of the node lock may."""
    values = {"node_id": node_id, "incarnation": incarnation, "ttl": ttl}
    row = await (await conn.execute(_SQL["take_node_lease"], values)).fetchone()
    assert row is not None
    return int(row.epoch)


async def renew_node_lease(conn: Connection, node_id: str, incarnation: UUID, ttl: timedelta = NODE_LEASE_LIFE) -> bool:
    """Keep the node for another ``ttl``; False: another incarnation runs it, we are fenced."""
    values = {"node_id": node_id, "incarnation": incarnation, "ttl": ttl}
    return (await conn.execute(_SQL["renew_node_lease"], values)).rowcount == 1


async def check_incarnation(conn: Connection, node_id: str, incarnation: UUID) -> None:
    """Raises Fenced if another incarnation has taken the node."""
    values = {"node_id": node_id, "incarnation": incarnation}
    row = await (await conn.execute(_SQL["is_incarnation"], values)).fetchone()
    if row is None or not row.ours:
        raise Fenced(f"node {node_id} is run by another process now", node_id=node_id)


async def release_node_lease(conn: Connection, node_id: str, incarnation: UUID) -> bool:
    """Give the node up, last step of a drain; False if it was not ours any more."""
    values = {"node_id": node_id, "incarnation": incarnation}
    return (await conn.execute(_SQL["release_node_lease"], values)).rowcount == 1


async def register(conn: Connection, node_id: str, info: Mapping[str, str]) -> None:
    """Enter ``node_id`` in the registry, alive from now on. ``info`` must say ``implementation``."""
    await conn.execute(_SQL["register"], {"node_id": node_id, "info": Jsonb(dict(info))})


async def beat(conn: Connection, node_id: str) -> bool:
    """Say that the node is alive; False if it is not registered (any more)."""
    return (await conn.execute(_SQL["beat"], {"node_id": node_id})).rowcount == 1


async def retire(conn: Connection, node_id: str, incarnation: UUID) -> bool:
    """First step of a drain: draining, and dead to every controller. False: another incarnation runs the node."""
    values = {"node_id": node_id, "incarnation": incarnation}
    async with conn.transaction():
        ours = (await conn.execute(_SQL["drain"], values)).rowcount == 1
        await conn.execute(_SQL["look_dead"], values)
    return ours


async def list_workers(conn: Connection) -> list[WorkerRow]:
    """Every node ever registered, by Node ID."""
    async with conn.cursor(row_factory=class_row(WorkerRow)) as cursor:
        await cursor.execute(_SQL["list_workers"], {"active": sorted(ACTIVE)})
        return await cursor.fetchall()


async def alive(conn: Connection) -> list[WorkerRow]:
    """The nodes that a job may be given to: alive and not draining, by Node ID."""
    return [worker for worker in await list_workers(conn) if worker.alive and not worker.draining]


async def is_registered(conn: Connection, node_id: str) -> bool:
    """Whether the node has a row."""
    row = await (await conn.execute(_SQL["is_alive"], {"node_id": node_id})).fetchone()
    return bool(row and row.registered)


async def is_alive(conn: Connection, node_id: str) -> bool:
    """Whether the node has beaten within 5 s."""
    row = await (await conn.execute(_SQL["is_alive"], {"node_id": node_id})).fetchone()
    return bool(row and row.alive)
