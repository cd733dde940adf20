"""What is there of a dataset, block by block, and what was asked for: the rows behind every coverage picture."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.descriptor import idempotency_key
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.quarantine import group_of_dataset
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)

Pictured = dict[str, list[Span]]
"""By ``covered``, ``unverified``, ``quarantined``, ``missing``: ascending, disjoint spans."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a dataset: what a revision, a job and a set-aside block belong to."""

    namespace: str
    name: str
    manifest_hash: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The job of a version; ``end`` is the last block that it was asked for, None while it follows the head."""

    job_id: int
    end: int | None


async def coverage(
    conn: Connection, version: Version, location_ids: Collection[int], span: Span
) -> dict[int, Pictured]:
    """Per revision what is there of ``span``; the spans are merged in the database, however many files there are."""
    values = {
        "location_ids": list(location_ids),
        "location_group": group_of_dataset(version.namespace, version.name, version.manifest_hash),
        "start": span.start,
        "end": span.end,
    }
    found: dict[int, Pictured] = {location_id: {} for location_id in location_ids}
    for row in await (await conn.execute(_SQL["coverage"], values)).fetchall():
        found[row.location_id][row.kind] = list(map(Span, row.firsts, row.lasts))
    return found


async def last_block(conn: Connection, location_ids: Collection[int], network: str) -> int | None:
    """The highest block in a canonical file of these revisions; None if there is no file."""
    values = {"location_ids": list(location_ids), "network": network}
    row = await (await conn.execute(_SQL["last_block"], values)).fetchone()
    return row.last if row else None


async def newest_job(conn: Connection, version: Version) -> Asked | None:
    """The job that fills a version, as it was asked last; there is one at most."""
    key = idempotency_key(version.namespace, version.name, version.manifest_hash)
    row = await (await conn.execute(_SQL["newest_job"], {"key": key})).fetchone()
    return Asked(row.job_id, row.end_block) if row else None
