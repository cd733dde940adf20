"""Who may commit to a revision: leases whose epoch is the fencing token (``spec/commit.md`` 1-3).

The epoch decides who wins; the expiry only decides when another may try. For now a lease is taken whenever the job
is ours, since no other node takes our jobs over yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from ampd_ray.errors import Fenced
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)

LEASE_LIFE: Final = timedelta(seconds=4)


async def acquire(
    conn: Connection,
    location_ids: Collection[int],
    job_id: int,
    node_id: str,
    incarnation: UUID,
    ttl: timedelta = LEASE_LIFE,
) -> dict[int, int]:
    """Take the revisions ``location_ids`` for a job; their new epochs by location.

    Raises Fenced, having taken none, when the job is not this node's.
    """
    values = {
        "location_ids": sorted(location_ids),
        "job_id": job_id,
        "node_id": node_id,
        "incarnation": incarnation,
        "ttl": ttl,
    }
    rows = await (await conn.execute(_SQL["acquire"], values)).fetchall()
    if len(rows) < len(location_ids):
        raise Fenced(f"job {job_id} is not on node {node_id} any more", job_id=job_id)
    return {row.location_id: row.epoch for row in rows}


async def renew(
    conn: Connection, location_ids: Collection[int], incarnation: UUID, ttl: timedelta = LEASE_LIFE
) -> frozenset[int]:
    """Keep the revisions for another ``ttl``; those kept. On the missing ones we are fenced.

    Raises DatabaseUnavailable when a commit holds a row for more than 500 ms, which blocks a take-over as well.
    """
    values = {"location_ids": sorted(location_ids), "incarnation": incarnation, "ttl": ttl}
    async with conn.transaction():
        await conn.execute(_SQL["limit_wait"])
        rows = await (await conn.execute(_SQL["renew"], values)).fetchall()
    return frozenset(row.location_id for row in rows)


async def release(conn: Connection, location_ids: Collection[int], incarnation: UUID) -> None:
    """Let the revisions go, so that the next holder need not wait; those of others are left alone."""
    await conn.execute(_SQL["release"], {"location_ids": sorted(location_ids), "incarnation": incarnation})


async def lock_for_commit(conn: Connection, epochs: Mapping[int, int], incarnation: UUID) -> None:
    """First step of a commit: lock the lease rows for this transaction, if we still hold them at ``epochs``.

    Raises Fenced that names the revisions lost; the caller rolls back and stops.
    """
    ids = sorted(epochs)
    values = {"location_ids": ids, "epochs": [epochs[at] for at in ids], "incarnation": incarnation}
    rows = await (await conn.execute(_SQL["lock_for_commit"], values)).fetchall()
    lost = sorted(set(ids) - {row.location_id for row in rows})
    if lost:
        raise Fenced(f"the lease of revision {', '.join(map(str, lost))} was taken by another", locations=lost)
