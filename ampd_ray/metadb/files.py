"""Files of a revision: announced, then committed for all tables at once (``spec/metadata-db.md`` 8, ``commit.md`` 5).

``file_metadata`` is what every reader sees, ``ampd_ray.segment`` is our index over it. A commit is one transaction
under the leases of its revisions; committing the same request again finds what is there and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import psycopg

from ampd_ray import failpoints
from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.segments import Segment
from ampd_ray.datasets import names
from ampd_ray.errors import AmpdError, CommitUnknown, Fenced, ObjectExists, Overlap
from ampd_ray.metadb import leases, sweep
from ampd_ray.metadb.connection import Connection, Database, Limits
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.segment_index import (
    Entry,
    Moved,
    add,
    decides_between_branches,
    overlapping,
    segments,
    sync_segments,
)

__all__ = [
    "CanonicalFile",
    "CommitRequest",
    "CommittedFile",
    "Intent",
    "NewFile",
    "TableSummary",
    "Uncounted",
    "announce",
    "canonical_files",
    "commit",
    "file_names",
    "find_committed",
    "segments",
    "summary",
    "sync_segments",
    "uncounted",
]

_SQL: Final = load(__file__)
_LIMITS: Final = Limits(statement=timedelta(seconds=10), lock=timedelta(seconds=3))
_ATTEMPTS: Final = 3

Ids = dict[tuple[int, str], int]  # file id by location and name
_MAY_COMMIT: Final = frozenset({"RUNNING", "STOP_REQUESTED", "STOPPING"})


@dataclass(frozen=True, slots=True)
class Intent:
    """A file to announce."""

    location_id: int
    file_name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file in the store, to be registered.

    ``known``: ids of the revision's files that the plan took into account; this file may overlap those only.
    ``created_ns`` comes from ``announce``; ``metadata_json`` is the Parquet key ``nozzle_metadata``.
    """

    table: str
    location_id: int
    epoch: int
    known: frozenset[int]
    file_name: str
    directory_url: str
    range: BlockRange
    created_ns: int
    metadata_json: str
    footer: bytes
    size: int
    e_tag: str | None
    version: str | None
    sha256: bytes
    row_count: int
    verified: str


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """The files of one block range, all tables, that become visible together or not at all.

    ``collect_after``: how long the files that they replace stay for those who read them; None: for good.
    """

    job_id: int
    node_id: str
    incarnation: UUID
    files: tuple[NewFile, ...]
    collect_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """A registered file; ``segment`` joins the segments known to the plan."""

    table: str
    location_id: int
    file_name: str
    segment: Segment


@dataclass(frozen=True, slots=True)
class CanonicalFile:
    """A file that readers read, the blocks in it, and its bytes if Amp has told them."""

    file_name: str
    span: Span
    size: int | None


@dataclass(frozen=True, slots=True)
class TableSummary:
    """What the canonical files of a table hold within a span; a file that reaches out of it counts as a whole."""

    table: str
    location_id: int
    rows: int
    files: int
    bytes: int
    covered: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Uncounted:
    """A canonical file whose rows within a span only the file itself knows; ``counted`` of them are in a summary.

    ``path`` is that of the file in the data directory; ``within``: none of its blocks are outside of the span.
    """

    table: str
    path: str
    counted: int
    within: bool


async def announce(db: Database, intents: Sequence[Intent], newest_ns: int | None = None) -> int:
    """Announce files before their first byte; returns their creation time in Unix nanoseconds.

    It is the database's clock, or later if need be: after ``newest_ns``, the newest file that the caller knows of;
    without it, after every file of the same revisions, which reads all of their rows.
    The same files announced again under the same epoch get the same time. Raises Overlap for a name whose object is
    about to be deleted, as after a branch that went and came back: under another epoch it has another name.
    """
    values = {
        "location_ids": [intent.location_id for intent in intents],
        "file_names": [intent.file_name for intent in intents],
        "epochs": [intent.epoch for intent in intents],
        "newest_ns": newest_ns,
    }
    async with db.transaction() as conn:
        if url := await sweep.buried(conn, [(intent.location_id, intent.file_name) for intent in intents]):
            raise Overlap(f"{url} is about to be deleted: its blocks are planned again")
        rows = await (await conn.execute(_SQL["announce"], values)).fetchall()
    return max(int(row.created_ns) for row in rows)


async def commit(db: Database, request: CommitRequest) -> list[CommittedFile]:
    """Register all files of ``request`` in one transaction, or find them registered already.

    Raises Fenced (a lease or the job is not ours any more), Overlap (others committed these blocks: plan again),
    ObjectExists (a file of that name is registered with other content), DatabaseUnavailable (nothing is written), or
    CommitUnknown when the database could not be asked what became of it; calling again is safe in every case.
    """
    unknown: CommitUnknown | None = None
    for _ in range(_ATTEMPTS):
        try:
            return await _commit(db, request)
        except CommitUnknown as error:
            unknown = error
        if found := await _look(db, request, unknown):
            return found
    assert unknown is not None
    raise unknown


async def find_committed(db: Database, request: CommitRequest) -> list[CommittedFile] | None:
    """The files of ``request`` if all are registered, else None; ObjectExists if one is, but with other content."""
    async with db.connection() as conn:
        present = await _present(conn, request.files)
    if len(present) < len(request.files):
        return None
    return [_committed(file, present) for file in request.files]


async def file_names(conn: Connection, location_id: int) -> list[str]:
    """The registered files of a revision. Raises InvalidName for one that is a path."""
    rows = await (await conn.execute(_SQL["file_names"], {"location_id": location_id})).fetchall()
    return [names.object_name(row.file_name) for row in rows]


async def canonical_files(
    conn: Connection, location_ids: Collection[int], span: Span | None = None
) -> dict[int, list[CanonicalFile]]:
    """Per revision its canonical files that have a block of ``span``, in block order, those behind a gap included.

    Raises InvalidName for a file whose name is a path: readers open what they are given.
    """
    values = {
        "location_ids": list(location_ids),
        "start": span and span.start,
        "end": span and span.end,
    }
    found: dict[int, list[CanonicalFile]] = {location_id: [] for location_id in location_ids}
    for row in await (await conn.execute(_SQL["canonical_files"], values)).fetchall():
        file = CanonicalFile(names.object_name(row.file_name), Span(row.first, row.last), row.size)
        found[row.location_id].append(file)
    return found


async def summary(conn: Connection, location_ids: Collection[int], span: Span) -> dict[str, TableSummary]:
    """Per table name, what is committed within ``span``."""
    values = {"location_ids": list(location_ids), "start": span.start, "end": span.end}
    rows = await (await conn.execute(_SQL["summarise"], values)).fetchall()
    return {
        row.table_name: TableSummary(
            table=row.table_name,
            location_id=row.location_id,
            rows=row.rows,
            files=row.files,
            bytes=row.bytes,
            covered=tuple(Span(part.lower, part.upper - 1) for part in row.covered or ()),
        )
        for row in rows
    }


async def uncounted(conn: Connection, location_ids: Collection[int], span: Span) -> list[Uncounted]:
    """The files whose rows a summary of ``span`` counts as a whole, or not at all."""
    values = {"location_ids": list(location_ids), "start": span.start, "end": span.end}
    rows = await (await conn.execute(_SQL["uncounted"], values)).fetchall()
    return [
        Uncounted(
            row.table_name, f"{names.directory(row.path)}/{names.object_name(row.file_name)}", row.counted, row.within
        )
        for row in rows
    ]


async def _look(db: Database, request: CommitRequest, unknown: CommitUnknown) -> list[CommittedFile] | None:
    try:
        return await find_committed(db, request)
    except AmpdError as error:
        if error.retryable:
            raise unknown from error
        raise


async def _commit(db: Database, request: CommitRequest) -> list[CommittedFile]:
    epochs = {file.location_id: file.epoch for file in request.files}
    async with db.transaction(_LIMITS) as conn:
        await leases.lock_for_commit(conn, epochs, request.incarnation)
        await _check_job(conn, request)
        ids = await _present(conn, request.files)
        fresh = [file for file in request.files if (file.location_id, file.file_name) not in ids]
        for location_id in sorted({file.location_id for file in fresh}):
            files = [file for file in fresh if file.location_id == location_id]
            added, moved = await _register(conn, location_id, files, own=frozenset(ids.values()))
            ids |= added
            await _collect_later(conn, moved, request.collect_after)
        if fresh:
            await conn.execute(_SQL["fulfil_intents"], _names(fresh))
            await conn.execute(_SQL["notify_changes"], _names(fresh))
        await failpoints.reach("in-commit")
    return [_committed(file, ids) for file in request.files]


async def _check_job(conn: Connection, request: CommitRequest) -> None:
    row = await (await conn.execute(_SQL["lock_job"], {"job_id": request.job_id})).fetchone()
    if row is None or row.node_id != request.node_id or row.status not in _MAY_COMMIT:
        found = "gone" if row is None else f"{row.status} on node {row.node_id}"
        raise Fenced(f"job {request.job_id} is {found}: node {request.node_id} may not commit for it")


async def _present(conn: Connection, files: Sequence[NewFile]) -> Ids:
    """The ids of those files that are registered already."""
    rows = await (await conn.execute(_SQL["registered"], _names(files))).fetchall()
    found = {(row.location_id, row.file_name): row for row in rows}
    ids: Ids = {}
    for file in files:
        row = found.get((file.location_id, file.file_name))
        if row is None:
            continue
        ranges = json.loads(file.metadata_json)["ranges"]
        if (row.object_size, row.object_e_tag, row.metadata["ranges"]) != (file.size, file.e_tag, ranges):
            raise ObjectExists(
                f"{file.directory_url}{file.file_name} is registered with another content "
                f"({row.object_size} bytes, {row.metadata['ranges']}): two writers share an epoch",
                table=file.table,
                file_id=row.id,
            )
        ids[file.location_id, file.file_name] = row.id
    return ids


async def _register(
    conn: Connection, location_id: int, files: list[NewFile], own: frozenset[int]
) -> tuple[Ids, Moved]:  # fmt: skip
    """Register and index files of one revision; ``own`` are the request's files that are registered already."""
    plain = True
    for file in files:
        overlaps = await _known_overlaps(conn, file, own)
        plain = plain and not overlaps and not await decides_between_branches(conn, location_id, file.range)
    ids = {(location_id, file.file_name): await _insert(conn, file) for file in files}
    entries = [Entry(_segment(file, ids), file.epoch, file.sha256, file.verified, file.row_count) for file in files]
    try:
        moved = await add(conn, location_id, entries, plain=plain)
    except psycopg.errors.ExclusionViolation as error:
        raise Overlap(f"{files[0].table}: blocks {files[0].range.span} were committed meanwhile") from error
    return ids, moved


async def _collect_later(conn: Connection, moved: Moved, after: timedelta | None) -> None:
    """What left the chain is deleted after a while, if at all; what came back to it is not."""
    if moved.on:
        await sweep.unqueue(conn, moved.on)
    if moved.off and after is not None:
        await sweep.queue(conn, moved.off, after)


async def _known_overlaps(conn: Connection, file: NewFile, own: frozenset[int]) -> bool:
    """True if the file overlaps files that its plan knew; Overlap for any other."""
    found = False
    for file_id, span in (await overlapping(conn, file.location_id, file.range)).items():
        if file_id not in file.known | own:
            raise Overlap(
                f"{file.table}: blocks {file.range.span} overlap file {file_id} ({span}), committed meanwhile",
                table=file.table,
                file_id=file_id,
            )
        found = True
    return found


async def _insert(conn: Connection, file: NewFile) -> int:
    values = {
        "location_id": file.location_id,
        "file_name": file.file_name,
        "metadata": file.metadata_json,
        "size": file.size,
        "e_tag": file.e_tag,
        "version": file.version,
        "url": file.directory_url,
        "footer": file.footer,
    }
    row = await (await conn.execute(_SQL["register"], values)).fetchone()
    assert row is not None
    return int(row.id)


def _names(files: Sequence[NewFile]) -> dict[str, list[int] | list[str]]:
    return {
        "location_ids": [file.location_id for file in files],
        "file_names": [file.file_name for file in files],
    }


def _segment(file: NewFile, ids: Ids) -> Segment:
    return Segment(ids[file.location_id, file.file_name], file.range, file.created_ns)


def _committed(file: NewFile, ids: Ids) -> CommittedFile:
    return CommittedFile(file.table, file.location_id, file.file_name, _segment(file, ids))
