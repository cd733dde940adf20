"""Revisions: the physical directory of a table, found or made (``spec/metadata-db.md`` 8.1)."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from ampd_ray.datasets import names
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Revision:
    """``path`` is relative to the data directory, ``<namespace>/<name>/<table>/<uuid v7>``, no slash at either end."""

    location_id: int
    path: str


async def open_revision(db: Database, namespace: str, name: str, manifest_hash: str, table: str) -> Revision:
    """The active revision of a table, made if there is none; processes that race get the same one."""
    values = {"namespace": namespace, "name": name, "hash": manifest_hash, "table": table}
    async with db.transaction() as conn:
        revision = await _active(conn, values) or await _create(conn, values)
        others = await (await conn.execute(_SQL["same_manifest"], values)).fetchall()
    if others:
        _log.warning(
            "table %s of %s/%s: Amp's readers take it for that of %s too, which has the same manifest",
            table,
            namespace,
            name,
            ", ".join(row.dataset for row in others),
        )
    return revision


async def active_revisions(conn: Connection, namespace: str, name: str, manifest_hash: str) -> dict[str, Revision]:
    """The active revisions of a dataset by table; creates nothing."""
    values = {"namespace": namespace, "name": name, "hash": manifest_hash}
    return _by_table(await (await conn.execute(_SQL["active_revisions"], values)).fetchall())


async def written_by(conn: Connection, job_id: int) -> dict[str, Revision]:
    """The active revisions that a job writes, by table."""
    return _by_table(await (await conn.execute(_SQL["written_by"], {"job_id": job_id})).fetchall())


async def set_writer(conn: Connection, location_ids: Iterable[int], job_id: int) -> None:
    """Name the job that writes these revisions: information for progress and deletion, not a lock."""
    await conn.execute(_SQL["set_writer"], {"location_ids": sorted(location_ids), "job_id": job_id})


async def _active(conn: Connection, values: dict[str, str]) -> Revision | None:
    row = await (await conn.execute(_SQL["active_revision"], values)).fetchone()
    return _revision(row) if row else None


async def _create(conn: Connection, values: dict[str, str]) -> Revision:
    await conn.execute(_SQL["lock_creation"], values)
    if revision := await _active(conn, values):
        return revision  # somebody made it while we waited for the lock
    path = f"{values['namespace']}/{values['name']}/{values['table']}/{uuid7()}"
    row = await (await conn.execute(_SQL["add_revision"], {**values, "path": path})).fetchone()
    assert row is not None
    await conn.execute(_SQL["activate"], {**values, "revision_id": row.id})
    return _revision(row)


def _by_table(rows: Iterable[Any]) -> dict[str, Revision]:
    return {row.table_name: _revision(row) for row in rows}


def _revision(row: Any) -> Revision:
    """Raises InvalidName for a path that would lead out of the data directory, or into another revision."""
    return Revision(row.id, names.directory(row.path))


def uuid7() -> UUID:
    """A version 7 UUID (RFC 9562): Unix milliseconds, then random bits, so that later ones sort after earlier ones."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0b11 << 62) | 0b10 << 62)
