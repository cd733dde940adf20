"""What the rows say about a revision, read for an audit; changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from psycopg import IsolationLevel

from ampd_ray.chain.ranges import BlockRange
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)
PAGE: Final = 200  # file rows at a time; their footers are read with them


@dataclass(frozen=True, slots=True)
class Indexed:
    """What ``ampd_ray.segment`` says of a file. ``at_home``: it names the file's own revision."""

    at_home: bool
    range: BlockRange
    sha256: bytes | None
    epoch: int
    verified: str | None
    canonical: bool
    row_count: int | None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A registered file. ``metadata`` is its JSON; ``queued``: it waits in ``gc_manifest``."""

    file_id: int
    file_name: str
    url: str
    metadata: str
    size: int | None
    indexed: Indexed | None
    queued: bool


@dataclass(frozen=True, slots=True)
class IntentRow:
    """An announced file. ``current``: of the newest epoch of its revision; ``live``: and that is held now."""

    file_name: str
    epoch: int
    swept: bool
    current: bool
    live: bool
    registered: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there is to check."""

    files: int
    bytes: int


@asynccontextmanager
async def snapshot(db: Database) -> AsyncIterator[Connection]:
    """A session of its own in which every statement sees the database as it was at the first."""
    async with db.session() as conn:
        await conn.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await conn.set_read_only(True)
        async with conn.transaction():
            yield conn


async def file_rows(conn: Connection, location_id: int, after: int = 0, limit: int = PAGE) -> list[FileRow]:
    """The next page of a revision's registered files, by id."""
    values = {"location_id": location_id, "after": after, "limit": limit}
    rows = await (await conn.execute(_SQL["file_rows"], values)).fetchall()
    return [
        FileRow(row.id, row.file_name, row.url, row.metadata, row.object_size, _indexed(row), row.queued)
        for row in rows
    ]


async def totals(conn: Connection, location_ids: Collection[int]) -> Totals:
    """How many files there are, and how many bytes by their rows."""
    row = await (await conn.execute(_SQL["totals"], {"location_ids": list(location_ids)})).fetchone()
    assert row is not None
    return Totals(row.files, row.bytes)


async def footers(conn: Connection, file_ids: Collection[int]) -> dict[int, bytes]:
    """The cached footers of files, by file id."""
    rows = await conn.execute(_SQL["footers"], {"file_ids": list(file_ids)})
    return {row.file_id: row.footer for row in await rows.fetchall()}


async def stray_segments(conn: Connection, location_id: int) -> dict[int, tuple[int, int]]:
    """Index rows without a file: their ids and blocks."""
    rows = await conn.execute(_SQL["stray_segments"], {"location_id": location_id})
    return {row.file_id: (row.first, row.last) for row in await rows.fetchall()}


async def unknown_names(conn: Connection, location_id: int, names: Collection[str]) -> set[str]:
    """Those of ``names`` that are neither registered nor announced nor to be deleted."""
    values = {"location_id": location_id, "names": list(names)}
    return {row.name for row in await (await conn.execute(_SQL["unknown_names"], values)).fetchall()}


async def intents(conn: Connection, location_id: int) -> list[IntentRow]:
    """The announced files of a revision."""
    rows = await (await conn.execute(_SQL["intents"], {"location_id": location_id})).fetchall()
    return [IntentRow(r.file_name, r.epoch, r.swept, r.current, r.live, r.registered) for r in rows]


async def tombstones(conn: Connection, location_id: int) -> dict[str, bool]:
    """The URLs of objects that are to be deleted, and for each whether it is registered all the same."""
    rows = await conn.execute(_SQL["tombstones"], {"location_id": location_id})
    return {row.url: row.registered for row in await rows.fetchall()}


async def epoch(conn: Connection, location_id: int) -> int:
    """The newest epoch of a revision; 0 if we never held it."""
    row = await (await conn.execute(_SQL["epoch"], {"location_id": location_id})).fetchone()
    return int(row.epoch) if row else 0


async def registered(conn: Connection, file_ids: Collection[int]) -> set[int]:
    """Those of ``file_ids`` that are registered now."""
    rows = await conn.execute(_SQL["registered"], {"file_ids": list(file_ids)})
    return {row.id for row in await rows.fetchall()}


async def levels(conn: Connection, location_id: int) -> dict[str, int]:
    """How many live blocks of a revision are verified how far."""
    rows = await (await conn.execute(_SQL["levels"], {"location_id": location_id})).fetchall()
    return {row.level: row.blocks for row in rows}


def _indexed(row: Any) -> Indexed | None:
    if not row.indexed:
        return None
    return Indexed(
        at_home=row.at_home,
        range=BlockRange(row.network, row.first, row.last, row.end_hash, row.start_parent),
        sha256=row.sha256,
        epoch=row.epoch,
        verified=row.verified,
        canonical=row.canonical,
        row_count=row.row_count,
    )
