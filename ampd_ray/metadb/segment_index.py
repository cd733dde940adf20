"""The index over the files of a revision: ``ampd_ray.segment`` (``spec/metadata-db.md`` 2.5).

``file_metadata`` is the truth; a segment repeats what is searched for, and says which of overlapping files are
canonical. Everything here runs in the caller's transaction and under the lease of the revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.segments import Segment, canonical_flags
from ampd_ray.datasets import names
from ampd_ray.errors import InvalidFileRow, InvalidName
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)
_PAGE: Final = 5_000  # rows read or written at a time, so that the event loop breathes in between


@dataclass(frozen=True, slots=True)
class Entry:
    """A segment for the index; the defaults are those of a file that somebody else wrote."""

    segment: Segment
    epoch: int = 0
    sha256: bytes | None = None
    verified: str | None = None
    row_count: int | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """The files of a revision that left the chain, and those that came back to it, by id."""

    off: tuple[int, ...] = ()
    on: tuple[int, ...] = ()


async def segments(conn: Connection, location_id: int) -> list[Segment]:
    """All registered files of a revision, oldest row first; InvalidFileRow names one that we cannot read."""
    found: list[Segment] = []
    while True:
        values = {"location_id": location_id, "after": found[-1].file_id if found else 0, "limit": _PAGE}
        page = await (await conn.execute(_SQL["file_rows"], values)).fetchall()
        found += [segment_of(row.id, row.file_name, row.metadata) for row in page]
        if len(page) < _PAGE:
            return found


async def sync_segments(conn: Connection, location_ids: Iterable[int]) -> None:
    """Bring the index in line with the file rows, e.g. those of an Amp writer or deleted ones."""
    for location_id in sorted(location_ids):
        gone = await conn.execute(_SQL["drop_orphans"], {"location_id": location_id})
        found = await conn.execute(_SQL["unindexed"], {"location_id": location_id})
        lacking = {row.id for row in await found.fetchall()}
        if gone.rowcount or lacking:
            known = await segments(conn, location_id)
            await _flag(conn, location_id, known, {s.file_id: Entry(s) for s in known if s.file_id in lacking})


async def overlapping(conn: Connection, location_id: int, block_range: BlockRange) -> dict[int, Span]:
    """The files of a revision that share a block with the range, by id."""
    rows = await conn.execute(_SQL["overlapping"], _values(location_id, block_range))
    return {row.file_id: Span(row.blocks.lower, row.blocks.upper - 1) for row in await rows.fetchall()}


async def decides_between_branches(conn: Connection, location_id: int, block_range: BlockRange) -> bool:
    """True if a new file may change which files of a revision are canonical, although it overlaps none."""
    row = await (await conn.execute(_SQL["branches_above"], _values(location_id, block_range))).fetchone()
    return bool(row and row.branches)


async def add(conn: Connection, location_id: int, entries: Iterable[Entry], *, plain: bool) -> Moved:
    """Index files whose rows are registered; what became of the others.

    ``plain``: they overlap nothing and decide between no branches, so all are canonical and nothing else changes.
    Otherwise the canonical files of the revision are determined anew.
    """
    new = {entry.segment.file_id: entry for entry in entries}
    if not plain:
        return await _flag(conn, location_id, await segments(conn, location_id), new)
    await _insert(conn, location_id, new.values(), dict.fromkeys(new, True))
    return Moved()


async def reindex(conn: Connection, location_id: int, entries: Iterable[Entry]) -> None:
    """Write the segments of registered files anew, drop those without a file, and flag all anew."""
    known = await segments(conn, location_id)
    ids = {segment.file_id for segment in known}
    new = {entry.segment.file_id: entry for entry in entries if entry.segment.file_id in ids}
    await conn.execute(_SQL["drop_orphans"], {"location_id": location_id})
    await conn.execute(_SQL["drop_segments"], {"file_ids": list(new)})
    await _flag(conn, location_id, known, new)


async def _flag(conn: Connection, location_id: int, known: list[Segment], new: Mapping[int, Entry]) -> Moved:
    """Insert ``new`` and flag all; what loses its place goes first, since canonical segments may never overlap."""
    flags = canonical_flags(known)
    chosen = [file_id for file_id, canonical in flags.items() if canonical]
    others = [file_id for file_id, canonical in flags.items() if not canonical]
    off = await _set(conn, others, canonical=False)
    await _insert(conn, location_id, new.values(), flags)
    return Moved(off, await _set(conn, chosen, canonical=True))


async def _set(conn: Connection, file_ids: list[int], *, canonical: bool) -> tuple[int, ...]:
    """Flag files; those for which that is new."""
    rows = await conn.execute(_SQL["set_canonical"], {"file_ids": file_ids, "canonical": canonical})
    return tuple(row.file_id for row in await rows.fetchall())


async def _insert(conn: Connection, location_id: int, entries: Iterable[Entry], flags: Mapping[int, bool]) -> None:
    """Insert them, thousands at a time; ``flags`` says of each file id whether it is canonical."""
    rows = [_row(entry, canonical=flags[entry.segment.file_id]) for entry in entries]
    for at in range(0, len(rows), _PAGE):
        page = rows[at : at + _PAGE]
        columns = {name: [row[name] for row in page] for name in page[0]}
        await conn.execute(_SQL["add_segments"], {"location_id": location_id} | columns)


def _row(entry: Entry, *, canonical: bool) -> dict[str, Any]:
    block_range = entry.segment.range
    return {
        "file_id": entry.segment.file_id,
        "network": block_range.network,
        "start": block_range.start,
        "end": block_range.end,
        "prev_hash": block_range.prev_hash,
        "hash": block_range.hash,
        "sha256": entry.sha256,
        "epoch": entry.epoch,
        "verified": entry.verified,
        "canonical": canonical,
        "row_count": entry.row_count,
    }


def _values(location_id: int, block_range: BlockRange) -> dict[str, Any]:
    numbers = {"start": block_range.start, "end": block_range.end}
    return {"location_id": location_id, "network": block_range.network, **numbers}


class _CreatedAt(msgspec.Struct, gc=False):
    secs: int
    nanos: int


class _Numbers(msgspec.Struct, gc=False):
    start: int
    end: int


class _Range(msgspec.Struct, gc=False):
    numbers: _Numbers
    network: str
    hash: str
    prev_hash: str
    timestamp: int | None = None


class _FileMetadata(msgspec.Struct, gc=False):
    """The JSON of a file row (8.3): what we need of it."""

    created_at: _CreatedAt
    ranges: list[_Range]


_decode: Final = msgspec.json.Decoder(_FileMetadata).decode


def segment_of(file_id: int, file_name: str, metadata: str) -> Segment:
    """The segment that a file row's JSON describes; InvalidFileRow if it is not that of a raw table's file."""
    try:
        names.object_name(file_name)
        file = _decode(metadata)
        (only,) = file.ranges
        span = Span(only.numbers.start, only.numbers.end)
        block_range = BlockRange(
            network=only.network,
            start=span.start,
            end=span.end,
            hash=_hash(only.hash),
            prev_hash=_hash(only.prev_hash),
            timestamp=only.timestamp,
        )
    except (msgspec.ValidationError, ValueError, InvalidName) as error:
        raise InvalidFileRow(
            f"file {file_id} ({file_name}): its row in file_metadata is not that of a raw table's file ({error})",
            file_id=file_id,
            file_name=file_name,
        ) from error
    return Segment(file_id, block_range, file.created_at.secs * 10**9 + file.created_at.nanos)


def _hash(text: str) -> bytes:
    value = bytes.fromhex(text.removeprefix("0x"))
    if len(value) != 32:
        raise ValueError(f"a hash of {len(value)} bytes")
    return value
