"""Audit the tables of a dataset: read rows and objects, compare them in :mod:`ampd_ray.materialize.audit`, mend.

It may run beside a job: rows are read in one snapshot, and what looks wrong of a file, or of an object without one,
is looked at once more before it is reported. Memory grows with the number of files (about a kilobyte each), not with
their sizes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ampd_ray.chain.ranges import Span
from ampd_ray.chain.segments import Segment
from ampd_ray.errors import InvalidFileRow
from ampd_ray.materialize.audit import (
    Finding,
    Kind,
    Registered,
    covered,
    is_sound,
    of_chain,
    of_coverage,
    of_intent,
    of_object,
    of_row,
    of_tombstone,
)
from ampd_ray.materialize.inspect import ObjectFacts, inspect_object
from ampd_ray.metadb import audit as rows
from ampd_ray.metadb.audit import FileRow
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.revisions import Revision
from ampd_ray.metadb.segment_index import Entry, segment_of
from ampd_ray.store.files import Listed, Store

_AT_A_TIME: Final = 4  # objects read at once
_NAMES: Final = 1000  # objects of a listing held against the rows at once


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the reading of objects is; bytes by the rows."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int


@dataclass
class TableAudit:
    """What was found of one table."""

    table: str
    revision: Revision
    files: list[Registered] = field(default_factory=list)
    covered: list[Span] = field(default_factory=list)
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    orphans: list[Listed] = field(default_factory=list)
    entries: dict[int, Entry] = field(default_factory=dict)
    """What the segment index should say of files that it has not, or not rightly."""
    counted: set[int] = field(default_factory=set)
    """Those of ``entries`` whose rows were counted in an object that is what its row says."""


class Audit:
    """Audits the active revisions of a dataset. ``run`` once; then ``tables`` holds what was found."""

    def __init__(
        self,
        db: Database,
        store: Store,
        revisions: Mapping[str, Revision],
        start_block: int,
        *,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ):
        self.tables = [TableAudit(table, revision) for table, revision in revisions.items()]
        self._db = db
        self._store = store
        self._start_block = start_block
        self._on_progress = on_progress
        self._read = asyncio.Semaphore(_AT_A_TIME)
        self._done = Progress(0, 0, 0, 0)

    async def run(self) -> None:
        """Look at everything, changing nothing. Raises a ``StoreError`` or a database error."""
        for table in self.tables:  # before the rows: what is committed meanwhile has a row then
            table.orphans = await self._unaccounted(table)
        async with rows.snapshot(self._db) as conn:
            for table in self.tables:
                await self._rows(conn, table)
        await asyncio.to_thread(self._compare)
        await self._objects()
        for table in self.tables:
            table.findings += await self.leftovers(table)
            await self._confirm(table)

    # -- rows -------------------------------------------------------------------------------------------------------

    async def _rows(self, conn: Connection, table: TableAudit) -> None:
        location_id, last = table.revision.location_id, 0
        while page := await rows.file_rows(conn, location_id, last):
            last = page[-1].file_id
            for row in page:
                self._row(table, row)
        for file_id, (first, end) in (await rows.stray_segments(conn, location_id)).items():
            message = f"the segment index has blocks {first}..{end} of a file that is not registered"
            table.findings.append(Finding(Kind.SEGMENT_STRAY, table.table, f"file {file_id}", message))

    def _row(self, table: TableAudit, row: FileRow) -> None:
        table.bytes += row.size or 0
        try:
            segment = segment_of(row.file_id, row.file_name, row.metadata)
        except InvalidFileRow as error:
            found = Finding(Kind.ROW_UNREADABLE, table.table, row.file_name, error.message, row.file_id)
            table.findings.append(found)
            return
        flagged = row.indexed.canonical if row.indexed else None
        table.files.append(Registered(segment, row.file_name, flagged, row.queued))
        found_here = list(of_row(table.table, row, segment))
        if found_here:
            table.findings += found_here
            table.entries[row.file_id] = _entry(segment, row)

    def _compare(self) -> None:
        """All that follows from the rows alone; with a hundred thousand files it takes a second or two."""
        for table in self.tables:
            table.findings += of_chain(table.table, table.files)
            table.covered = covered([file.segment for file in table.files])
        of_table = {table.table: table for table in self.tables}
        for finding in of_coverage(self._start_block, {table.table: table.covered for table in self.tables}):
            of_table[finding.table].findings.append(finding)

    # -- objects ----------------------------------------------------------------------------------------------------

    async def _objects(self) -> None:
        async with self._db.connection() as conn:
            totals = await rows.totals(conn, [table.revision.location_id for table in self.tables])
        self._done = Progress(0, totals.files, 0, totals.bytes)
        for table in self.tables:
            last = 0
            while page := await self._page(table, last):
                last = page[-1][0].file_id
                await asyncio.gather(*(self._object(table, row, footer) for row, footer in page))

    async def _page(self, table: TableAudit, after: int) -> list[tuple[FileRow, bytes | None]]:
        async with self._db.connection() as conn:
            page = await rows.file_rows(conn, table.revision.location_id, after)
            footers = await rows.footers(conn, [row.file_id for row in page])
        return [(row, footers.get(row.file_id)) for row in page]

    async def _object(self, table: TableAudit, row: FileRow, footer: bytes | None) -> None:
        async with self._read:
            facts = await self.inspect(table, row)
        table.findings += of_object(table.table, row, facts, footer)
        if facts is not None and is_sound(row, facts):
            self._learn(table, row, facts)
        done = self._done
        self._done = Progress(done.files + 1, done.files_total, done.bytes + (row.size or 0), done.bytes_total)
        self._on_progress(self._done)

    async def inspect(self, table: TableAudit, row: FileRow) -> ObjectFacts | None:
        """Read an object; every row of it, if there is no checksum to hold it against."""
        unknown = row.indexed is None or row.indexed.sha256 is None
        path = f"{table.revision.path}/{row.file_name}"
        return await asyncio.to_thread(inspect_object, self._store, path, decode=unknown)

    def _learn(self, table: TableAudit, row: FileRow, facts: ObjectFacts) -> None:
        """What the index should say, now that the object is known to be what its row says."""
        wrong_count = row.indexed is not None and row.indexed.row_count not in (None, facts.rows)
        if row.file_id in table.entries or wrong_count:
            segment = segment_of(row.file_id, row.file_name, row.metadata)
            table.entries[row.file_id] = _entry(segment, row, facts)
            table.counted.add(row.file_id)

    # -- what is left over -------------------------------------------------------------------------------------------

    async def leftovers(self, table: TableAudit) -> list[Finding]:
        """Intents, tombstones and unfinished files that should be gone."""
        location_id, path = table.revision.location_id, table.revision.path
        async with self._db.connection() as conn:
            epoch = await rows.epoch(conn, location_id)
            intents = await rows.intents(conn, location_id)
            tombstones = await rows.tombstones(conn, location_id)
        found: list[Finding] = []
        for intent in intents:
            uploaded = await self._exists(f"{path}/{intent.file_name}")
            finding = of_intent(table.table, intent, uploaded=uploaded)
            found += [] if finding is None else [finding]
        for url, registered in tombstones.items():
            at = self._store.path_of(url)
            uploaded = at is not None and await self._exists(at)
            found.append(of_tombstone(table.table, url, registered=registered, uploaded=uploaded))
        for staged in await asyncio.to_thread(self._store.staged_epochs, location_id):
            if staged < epoch:
                message = f"unfinished files of epoch {staged}, which can commit no more"
                found.append(Finding(Kind.STAGING_LEFTOVER, table.table, f"epoch {staged}", message))
        return found

    async def _unaccounted(self, table: TableAudit) -> list[Listed]:
        """The objects in a revision's directory that no row accounts for."""
        listing = self._store.objects(table.revision.path)
        found: list[Listed] = []
        while page := await asyncio.to_thread(_next, listing, _NAMES):
            found += await self._without_row(table, page)
        return found

    async def _without_row(self, table: TableAudit, page: Sequence[Listed]) -> list[Listed]:
        async with self._db.connection() as conn:
            unknown = await rows.unknown_names(conn, table.revision.location_id, [each.name for each in page])
        return [each for each in page if each.name in unknown]

    async def _confirm(self, table: TableAudit) -> None:
        """Look once more: a job may have committed or collected files meanwhile."""
        async with self._db.connection() as conn:
            blamed = {finding.file_id for finding in table.findings if finding.file_id is not None}
            there = await rows.registered(conn, blamed)
        table.findings = [f for f in table.findings if f.file_id is None or f.file_id in there]
        table.orphans = [
            orphan
            for orphan in await self._without_row(table, table.orphans)
            if await self._exists(f"{table.revision.path}/{orphan.name}")
        ]
        table.findings += [_orphan(table.table, orphan) for orphan in table.orphans]

    async def _exists(self, path: str) -> bool:
        return await asyncio.to_thread(self._store.exists, path)


def _entry(segment: Segment, row: FileRow, facts: ObjectFacts | None = None) -> Entry:
    """The index row of a file: what it said, as far as that is right, and what is known of the object."""
    said = row.indexed
    return Entry(
        segment,
        epoch=said.epoch if said else 0,
        sha256=(said.sha256 if said else None) or (facts.sha256 if facts else None),
        verified=said.verified if said else None,
        row_count=facts.rows if facts else (said.row_count if said else None),
    )


def _next(listing: Iterator[Listed], count: int) -> list[Listed]:
    return list(itertools.islice(listing, count))


def _orphan(table: str, orphan: Listed) -> Finding:
    hours = orphan.age_secs / 3600
    message = f"an object of {orphan.size} bytes without a row, written {hours:.1f} hours ago"
    return Finding(Kind.ORPHAN_OBJECT, table, orphan.name, message)
