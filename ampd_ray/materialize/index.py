"""The registered segments of a job's tables, in memory: read once, then fed by the job's own commits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.segments import Segment, missing
from ampd_ray.materialize.types import CommittedFile, Location
from ampd_ray.metadb import files
from ampd_ray.metadb.connection import Database


class SegmentIndex:
    """What is registered, per table."""

    def __init__(self) -> None:
        self._segments: dict[str, list[Segment]] = {}

    async def load(self, db: Database, locations: Sequence[Location]) -> None:
        """Read everything anew."""
        async with db.connection() as conn:
            self._segments = {
                location.table: list(await files.segments(conn, location.location_id)) for location in locations
            }

    def add(self, file: CommittedFile) -> None:
        """A file of our own was committed."""
        self._segments[file.table].append(Segment(file.file_id, file.range, file.created_ns))

    async def lacking(self, wanted: Span, beside: Segment | None = None) -> dict[str, list[Span]]:
        """The blocks of ``wanted`` that each table lacks (``spec/data.md`` 6); ``beside`` counts as registered.

        With a hundred thousand files this takes a second, so it does not run on the event loop.
        """
        extra = [] if beside is None else [beside]
        return await asyncio.to_thread(
            lambda: {table: missing([*segments, *extra], wanted) for table, segments in self._segments.items()}
        )

    def overlapped(self, table: str, span: Span) -> dict[int, BlockRange]:
        """The registered files that writing ``span`` may overlap, by id: those that a repair is about to replace."""
        return {
            segment.file_id: segment.range
            for segment in self._segments[table]
            if segment.range.start <= span.end and span.start <= segment.range.end
        }

    @property
    def newest_ns(self) -> int:
        """The highest ``created_at`` of all files, 0 without any."""
        return max((segment.created_ns for found in self._segments.values() for segment in found), default=0)
