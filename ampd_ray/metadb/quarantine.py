"""Blocks that no provider delivers correctly: ``ampd_ray.quarantine`` (``spec/commit.md`` 2, ``data.md`` 9.4).

A job does without them until somebody clears them. They belong to a *location group*: all tables of one version of a
dataset, named ``NAMESPACE/NAME@MANIFEST_HASH``, since a block that is wrong is wrong for each of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.metadb import leases
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)

Evidence = Sequence[Mapping[str, Any]]  # for each provider asked: provider, host, code, message, check


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One block; ``attempts`` counts how often it was set aside, ``provider`` was the first to be asked."""

    block: int
    reason: str
    provider: str
    attempts: int
    first_seen: datetime
    last_seen: datetime
    evidence: Evidence


def group_of(descriptor: JobDescriptor) -> str:
    """The location group that a job writes to."""
    return group_of_dataset(descriptor.dataset_namespace, descriptor.dataset_name, descriptor.manifest_hash)


def group_of_dataset(namespace: str, name: str, manifest_hash: str) -> str:
    """The location group of one version of a dataset."""
    return f"{namespace}/{name}@{manifest_hash}"


async def put(
    db: Database,
    group: str,
    block: int,
    evidence: Evidence,
    *,
    epochs: Mapping[int, int],
    incarnation: UUID,
) -> None:
    """Set a block aside. ``epochs`` are those of the revisions' leases: raises Fenced if they are not ours any more."""
    first = evidence[0]
    values = {
        "location_group": group,
        "block": block,
        "reason": first["message"],
        "provider": first["provider"],
        "evidence": json.dumps(evidence),
    }
    async with db.transaction() as conn:
        await leases.lock_for_commit(conn, epochs, incarnation)
        await conn.execute(_SQL["put"], values)


async def forget(db: Database, group: str, *, epochs: Mapping[int, int], incarnation: UUID) -> None:
    """Clear all of them, as the holder of the leases; raises Fenced as ``put`` does."""
    async with db.transaction() as conn:
        await leases.lock_for_commit(conn, epochs, incarnation)
        await clear(conn, group)


async def listed(conn: Connection, group: str) -> list[Quarantined]:
    """All of them, ascending."""
    rows = await (await conn.execute(_SQL["listed"], {"location_group": group})).fetchall()
    return [Quarantined(**row._asdict()) for row in rows]


async def blocks(conn: Connection, group: str) -> list[int]:
    """Their numbers, ascending."""
    rows = await (await conn.execute(_SQL["blocks"], {"location_group": group})).fetchall()
    return [row.block for row in rows]


async def clear(conn: Connection, group: str) -> int:
    """Have them extracted again; how many."""
    return int((await conn.execute(_SQL["clear"], {"location_group": group})).rowcount)
