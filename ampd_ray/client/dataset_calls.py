"""What can be asked about a dataset, as coroutines for the session's loop."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from ampd_ray.chain.expression import MAX_BLOCK, RangeExpr, parse_range
from ampd_ray.chain.ranges import Span, union
from ampd_ray.client.coverage import Coverage, TableCoverage
from ampd_ray.client.displays.words import spans_of
from ampd_ray.client.session_calls import SessionCalls
from ampd_ray.client.tables import Snapshot, snapshot
from ampd_ray.datasets.evm.schemas import SCHEMAS, TABLES
from ampd_ray.datasets.manifest import Manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import NotFound, NothingThere
from ampd_ray.metadb import coverage, datasets, files, revisions
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.coverage import Version
from ampd_ray.metadb.files import TableSummary
from ampd_ray.metadb.revisions import Revision

_EVERYTHING: Final = Span(0, MAX_BLOCK - 1)


async def pinned(session: SessionCalls, ref: DatasetRef) -> DatasetRef:
    """The same dataset by the hash of the manifest that ``ref`` means now. Raises NotFound."""
    async with session.db.connection() as conn:
        return DatasetRef(ref.namespace, ref.name, await datasets.resolve(conn, ref))


class DatasetCalls:
    """The calls of one dataset, whose ``ref`` is pinned."""

    def __init__(self, session: SessionCalls, ref: DatasetRef):
        assert ref.revision is not None
        self._session = session
        self._ref = ref
        self._version = Version(ref.namespace, ref.name, ref.revision)

    async def manifest(self) -> Manifest:
        """What it is."""
        return await self._session.manifest(self._ref)

    async def tables(self) -> tuple[str, ...]:
        """The tables that are extracted; all that it may have while none is."""
        async with self._session.db.connection() as conn:
            return _present(await self._revisions(conn))

    async def job_id(self) -> int | None:
        """The job that fills it; None before there was one."""
        async with self._session.db.connection() as conn:
            found = await coverage.newest_job(conn, self._version)
        return None if found is None else found.job_id

    async def summary(self) -> dict[str, TableSummary]:
        """Rows, files, bytes and blocks by table; those that have no directory yet are absent."""
        async with self._session.db.connection() as conn:
            ids = [revision.location_id for revision in (await self._revisions(conn)).values()]
            found = await files.summary(conn, ids, _EVERYTHING)
        return {table: found[table] for table in TABLES if table in found}

    async def coverage(self, blocks: str | None = None) -> Coverage:
        """Which blocks are there, verified, set aside, missing."""
        asked = None if blocks is None else parse_range(blocks)
        manifest = await self.manifest()
        first, pictured = manifest.start_block, dict[str, TableCoverage]()
        async with self._session.db.connection() as conn:
            ids = {table: revision.location_id for table, revision in (await self._revisions(conn)).items()}
            last = await coverage.last_block(conn, ids.values(), manifest.network)
            job = await coverage.newest_job(conn, self._version)
            ends = [end for end in (last, job.end if job else None) if end is not None and end >= first]
            span = asked.reached(last) if asked else Span(first, max(ends)) if ends else None
            if span is not None:
                found = await coverage.coverage(conn, self._version, ids.values(), span)
                pictured = {table: TableCoverage(**found[ids[table]]) for table in ids}
        begin = first if asked is None or asked.start is None else asked.start
        start, end = (begin, begin - 1) if span is None else (span.start, span.end)
        nothing = TableCoverage((), (), (), () if span is None else (span,))
        tables = {table: pictured.get(table, nothing) for table in _present(pictured)}
        return Coverage(self._ref.dataset, manifest.network, start, end, tables)

    async def snapshot(self, tables: Sequence[str], blocks: str | None = None) -> Snapshot:
        """The files of some tables that have one of ``blocks``, all of one moment.

        What counts from the end lacks neither what is before the dataset's start nor what comes after a table's last
        block. Raises NotFound, InvalidRange, NothingThere if none of the tables has any of ``blocks``.
        """
        for table in tables:
            if table not in SCHEMAS:
                raise NotFound(
                    f"there is no table {table!r}; the tables of {self._ref.dataset} are {', '.join(TABLES)}"
                )
        asked = None if blocks is None else parse_range(blocks)
        manifest = await self.manifest() if asked and asked.is_relative else None
        store = self._session.data
        async with self._session.db.connection() as conn:
            present = await self._revisions(conn)
            wanted = {name: present[name] for name in tables if name in present}
            span = None if asked is None else await _reached(conn, asked, present, manifest)
            taken = Snapshot(store, {}) if asked and not span else await snapshot(conn, store, wanted, span)
            if asked and not any(taken.files.values()):
                raise await self._nothing_there(conn, tables, wanted, asked)
        lacking = dict(taken.lacking)
        if manifest and span:
            lacking = {name: [each for each in spans if each.end != span.end] for name, spans in lacking.items()}
        return Snapshot(store, {name: taken.files.get(name, ()) for name in tables}, span, lacking)

    async def _nothing_there(
        self, conn: Connection, tables: Sequence[str], wanted: Mapping[str, Revision], asked: RangeExpr
    ) -> NothingThere:
        """What is there instead of the blocks that were asked for."""
        ids = [revision.location_id for revision in wanted.values()]
        found = await coverage.coverage(conn, self._version, ids, _EVERYTHING)
        there = union(*(pictured["covered"] for pictured in found.values()))
        which = f"{tables[0]} of {self._ref.dataset}" if len(tables) == 1 else self._ref.dataset
        if not there:
            return NothingThere(f"nothing of {which} has been extracted yet, so there is no {asked}")
        return NothingThere(f"{which} has none of the blocks {asked}; it has {spans_of(there)}")

    async def _revisions(self, conn: Connection) -> dict[str, Revision]:
        version = self._version
        return await revisions.active_revisions(conn, version.namespace, version.name, version.manifest_hash)


async def _reached(
    conn: Connection, asked: RangeExpr, present: Mapping[str, Revision], manifest: Manifest | None
) -> Span | None:
    """The blocks that are meant; ``manifest`` is given if they count from the last block that is there."""
    if manifest is None:
        return asked.reached(None)
    ids = [revision.location_id for revision in present.values()]
    span = asked.reached(await coverage.last_block(conn, ids, manifest.network))
    if span is None or asked.last is None or span.end < manifest.start_block:
        return span
    return Span(max(span.start, manifest.start_block), span.end)


def _present(tables: Collection[str]) -> tuple[str, ...]:
    """The tables that have a directory, in their usual order; all while none has."""
    return tuple(table for table in TABLES if table in tables) or TABLES
