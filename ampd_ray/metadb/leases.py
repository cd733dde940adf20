"""Who may commit to a revision: leases whose epoch is the fencing token (``spec/commit.md`` 1-3).

The epoch decides who wins; the expiry only decides when another may try. Rows are locked in ascending order, and
before the status of the job.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import psycopg

from ampd_ray.errors import AmpdError, Fenced, LeaseHeld
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)

LEASE_LIFE: Final = timedelta(seconds=4)
_SOON_SECS: Final = 0.05  # for a lease that ran out while we asked about it


async def acquire(
    conn: Connection,
    location_ids: Collection[int],
    job_id: int,
    node_id: str,
    incarnation: UUID,
    ttl: timedelta = LEASE_LIFE,
) -> dict[int, int]:
    """Take the revisions ``location_ids`` for a job, all or none; their new epochs by location.

    Raises LeaseHeld while somebody else holds one of them, and Fenced when the job is not this node's.
    """
    values = {
        "location_ids": sorted(location_ids),
        "job_id": job_id,
        "node_id": node_id,
        "incarnation": incarnation,
        "ttl": ttl,
    }
    async with conn.transaction():  # what was obtained in part is given back
        rows = await (await conn.execute(_SQL["acquire"], values)).fetchall()
        if len(rows) < len(location_ids):
            raise await _refusal(conn, values)
    return {row.location_id: row.epoch for row in rows}


async def _refusal(conn: Connection, values: dict[str, Any]) -> AmpdError:
    row = await (await conn.execute(_SQL["refusal"], values)).fetchone()
    assert row is not None
    if not row.ours:
        job_id = values["job_id"]
        return Fenced(f"job {job_id} is not on node {values['node_id']} any more", job_id=job_id)
    secs = max(_SOON_SECS, row.secs or 0.0)
    revisions = ", ".join(map(str, row.locations or ()))
    message = f"node {row.node_id} holds the lease of revision {revisions} for another {secs:.1f} s"
    return LeaseHeld(message, for_secs=secs, locations=row.locations)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of the leases that were to be renewed; on those in neither set we are fenced.

    ``delayed`` are ours still, but a transaction holds their rows: a commit of our own, or a take-over that waits for
    none.
    """

    kept: frozenset[int]
    delayed: frozenset[int]


async def renew(
    conn: Connection, location_ids: Collection[int], incarnation: UUID, ttl: timedelta = LEASE_LIFE
) -> Renewal:
    """Keep the revisions for another ``ttl``, whether or not they have run out: nobody has taken them meanwhile.

    Waits 500 ms at most for a commit, and then renews those that no commit holds.
    """
    values = {"location_ids": sorted(location_ids), "incarnation": incarnation, "ttl": ttl}
    try:
        return Renewal(await _renew(conn, "lock_mine", values), frozenset())
    except psycopg.errors.LockNotAvailable:
        kept = await _renew(conn, "lock_free", values)
    rows = await (await conn.execute(_SQL["mine"], values)).fetchall()
    return Renewal(kept, frozenset(row.location_id for row in rows) - kept)


async def _renew(conn: Connection, lock: str, values: dict[str, Any]) -> frozenset[int]:
    async with conn.transaction():
        await conn.execute(_SQL["limit_wait"])
        locked = await (await conn.execute(_SQL[lock], values)).fetchall()
        kept = [row.location_id for row in locked]
        await conn.execute(_SQL["renew"], {"location_ids": kept, "ttl": values["ttl"]})
    return frozenset(kept)


async def release(conn: Connection, incarnation: UUID, job_id: int | None = None) -> None:
    """Let go what this process holds, for one job or at all, so that the next holder need not wait.

    Raises DatabaseUnavailable when a commit holds a row for more than 500 ms: then the leases run out by themselves.
    """
    values = {"incarnation": incarnation, "job_id": job_id}
    async with conn.transaction():
        await conn.execute(_SQL["limit_wait"])
        rows = await (await conn.execute(_SQL["lock_held"], values)).fetchall()
        await conn.execute(_SQL["release"], {"location_ids": [row.location_id for row in rows]})


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
