"""The registered segments of a job's tables, in memory: read once, then fed by the job's own commits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from ampd_ray.chain.growing import GrowingTable, Lacking
from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.segments import Segment
from ampd_ray.materialize.types import Location, WriterReport
from ampd_ray.metadb import files
from ampd_ray.metadb.connection import Database


class SegmentIndex:
    """What is registered, per table. ``version`` changes with every change."""

    def __init__(self) -> None:
        self.version = 0
        self._tables: dict[str, GrowingTable] = {}
        self._collected: set[int] = set()
        self._bridges: dict[str, dict[Span, Segment]] = {}
        self._bridged: tuple[int, Sequence[Span]] | None = None  # for which version and holes

    async def load(self, db: Database, locations: Sequence[Location]) -> None:
        """Read everything anew."""
        tables: dict[str, GrowingTable] = {}
        async with db.connection() as conn:
            for location in locations:
                found = await files.segments(conn, location.location_id)
                tables[location.table] = await asyncio.to_thread(GrowingTable, found)
        self._tables = tables
        self._bridges = {}
        self.version += 1

    def note(self, report: WriterReport) -> None:
        """Take in what a writer of ours has committed, and what it found as it was."""
        for file in report.committed:
            self._tables[file.table].add(Segment(file.file_id, file.range, file.created_ns))
        for found in report.unchanged:
            self._tables[found.table].confirm(found.file_id, found.span)
        if report.committed or report.unchanged:
            self.version += 1

    def forget(self, file_ids: Collection[int]) -> None:
        """These files are registered no more. May be called at any time; planning takes it into account."""
        if file_ids:
            self._collected.update(file_ids)
            self.version += 1

    async def lacking(
        self, wanted: Span, beside: Segment | None = None, holes: Sequence[Span] = ()
    ) -> dict[str, Lacking]:
        """What each table lacks of ``wanted`` (``spec/data.md`` 6); ``beside`` counts as registered.

        Blocks that are done without, ``holes``, count as registered between two files: else no fork above them is seen.
        With a hundred thousand files a fork takes a second, which is not spent on the event loop.
        """
        if self._collected:
            self._tables = {table: segments.without(self._collected) for table, segments in self._tables.items()}
            self._collected = set()
        if self._bridged is None or self._bridged[0] != self.version or self._bridged[1] is not holes:
            self._bridge(holes)
        found: dict[str, Lacking] = {}
        for table, segments in self._tables.items():
            at_once = segments.lacking_at_once(wanted, beside)
            if at_once is None:
                at_once = await asyncio.to_thread(segments.lacking, wanted, beside)
            found[table] = at_once
        return found

    def overlapped(self, table: str, span: Span) -> dict[int, BlockRange]:
        """The registered files that writing ``span`` may overlap, by id: those that a repair is about to replace."""
        found = self._tables[table].overlapped(span)
        return {segment.file_id: segment.range for segment in found if segment.file_id > 0}

    def _bridge(self, holes: Sequence[Span]) -> None:
        for table, segments in self._tables.items():
            old = self._bridges.get(table, {})
            new = {hole: found for hole in holes if (found := bridge(segments, hole)) is not None}
            stale = {old[hole].file_id for hole in old if new.get(hole) != old[hole]}
            kept = segments.without(stale) if stale else segments
            for hole, segment in new.items():
                if old.get(hole) != segment:
                    kept.add(segment)
            self._tables[table], self._bridges[table] = kept, new
        self._bridged = (self.version, holes)

    def again(self, table: str, span: Span) -> frozenset[int]:
        """Those of them that are to be written again though they are as the provider has them, see ``GrowingTable``."""
        return self._tables[table].again(span)

    @property
    def empty(self) -> bool:
        """True while nothing is registered."""
        return self.newest_ns == 0

    @property
    def newest_ns(self) -> int:
        """The highest ``created_at`` of all files, 0 without any."""
        return max((table.newest_ns for table in self._tables.values()), default=0)


def bridge(segments: GrowingTable, hole: Span) -> Segment | None:
    """What stands for the blocks of ``hole`` between the newest files below and above it; None without both."""
    near = [s for s in segments.overlapped(Span(max(hole.start - 1, 0), hole.end + 1)) if s.file_id > 0]
    below = [segment for segment in near if segment.range.end == hole.start - 1]
    above = [segment for segment in near if segment.range.start == hole.end + 1]
    if not below or not above:
        return None
    first, last = max(below, key=_age), max(above, key=_age)
    range_ = BlockRange(last.range.network, hole.start, hole.end, hash=last.range.prev_hash, prev_hash=first.range.hash)
    return Segment(file_id=-1 - hole.start, range=range_, created_ns=0)


def _age(segment: Segment) -> int:
    return segment.created_ns
