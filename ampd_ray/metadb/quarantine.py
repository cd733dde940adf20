"""Blocks that no provider delivers correctly: ``ampd_ray.quarantine`` (``spec/commit.md`` 2, ``data.md`` 9.4).

A job does without them until somebody clears them. They belong to a *location group*: all tables of one version of a
dataset, named ``NAMESPACE/NAME@MANIFEST_HASH``, since a block that is wrong is wrong for each of them.

A run of the job may fill a few of these tables only. So rows go only where no table lacks their blocks for good: where
none has a file yet (``forget``), or where the run that clears them fills every table that has (``require_all_tables``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import JobConflict
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


async def forget(db: Database, group: str, *, epochs: Mapping[int, int], incarnation: UUID) -> bool:
    """Clear all of them, as the holder of the leases, if no table of the group has a file; whether that is so.

    Raises Fenced as ``put`` does.
    """
    async with db.transaction() as conn:
        await leases.lock_for_commit(conn, epochs, incarnation)
        if await _tables_with_files(conn, group):
            return False
        await clear(conn, group)
        return True


async def require_all_tables(conn: Connection, job_id: int, descriptor: JobDescriptor) -> None:
    """Raises JobConflict if a run by ``descriptor`` would leave out tables that lack the blocks that are set aside."""
    group = group_of(descriptor)
    if descriptor.tables is None or not await blocks(conn, group):
        return
    others = [table for table in await _tables_with_files(conn, group) if table not in descriptor.tables]
    if others:
        raise JobConflict(
            f"job {job_id} fills {', '.join(descriptor.tables)} only, and {', '.join(others)} of {descriptor.dataset} "
            "lack the blocks that are set aside as well. Have it fill all of them first (`ampd backfill` with "
            f"`--tables {','.join([*descriptor.tables, *others])}`, or `ampd deploy`), then try again",
            job_id=job_id,
        )


async def listed(conn: Connection, group: str) -> list[Quarantined]:
    """All of them, ascending."""
    rows = await (await conn.execute(_SQL["listed"], {"location_group": group})).fetchall()
    return [Quarantined(**row._asdict()) for row in rows]


async def blocks(conn: Connection, group: str) -> list[int]:
    """Their numbers, ascending."""
    rows = await (await conn.execute(_SQL["blocks"], {"location_group": group})).fetchall()
    return [row.block for row in rows]


async def clear(conn: Connection, group: str, last: int | None = None) -> int:
    """Have those up to the block ``last`` extracted again, without it all; how many."""
    return int((await conn.execute(_SQL["clear"], {"location_group": group, "last": last})).rowcount)


async def _tables_with_files(conn: Connection, group: str) -> list[str]:
    rows = await (await conn.execute(_SQL["tables_with_files"], {"location_group": group})).fetchall()
    return [row.table_name for row in rows]
