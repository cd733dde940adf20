"""Extractors and writers in this process: a whole job without Ray, and with a way to let things fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import AmpdError
from ampd_ray.materialize.extract import Extractor
from ampd_ray.materialize.leaving import Leave
from ampd_ray.materialize.types import Extract, ExtractSummary, Partition, RangeTask, WriterReport
from ampd_ray.materialize.write import PartitionWriter
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import Store


async def never() -> Leave:
    """The notice of a machine that stays."""
    await asyncio.Event().wait()
    raise AssertionError


@dataclass
class Trouble:
    """Errors to raise, one for each call whose turn it is; ``fired`` counts them."""

    errors: list[AmpdError] = field(default_factory=list)
    fired: int = 0

    def strike(self) -> None:
        """Raise the next error, if there is one."""
        if self.errors:
            self.fired += 1
            raise self.errors.pop(0)


class LocalExtractors:
    """The port ``Extractors`` without processes. ``before_extract`` may do anything before a call."""

    def __init__(self, extractor: Extractor, *, tasks: int = 4):
        self.trouble = Trouble()
        self.spans: list[Span] = []
        self.before_extract: Callable[[Span], Awaitable[None]] | None = None
        self._extractor = extractor
        self._tasks = tasks

    def slots(self, wanted: int) -> int:
        return self._tasks

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Any]:
        self.trouble.strike()
        self.spans.append(task.span)
        if self.before_extract is not None:
            await self.before_extract(task.span)
        return await self._extractor.extract(task)


class LocalWriters:
    """The port ``Writers`` without processes.

    ``partitions`` were opened, at most ``most_open`` at a time. ``before_append`` may do anything before a call.
    """

    def __init__(self, db: Database, store: Store):
        self.partitions: list[Partition] = []
        self.handles: list[LocalPartition] = []
        self.reports: list[WriterReport] = []
        self.trouble = Trouble()
        self.before_append: Callable[[Extract], Awaitable[None]] | None = None
        self.open_now = 0
        self.most_open = 0
        self._db = db
        self._store = store

    async def open(self, partition: Partition) -> LocalPartition:
        self.partitions.append(partition)
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        self.handles.append(LocalPartition(PartitionWriter(partition, self._db, self._store), self))
        return self.handles[-1]


class LocalPartition:
    """The port ``WriterHandle`` without processes."""

    def __init__(self, writer: PartitionWriter, writers: LocalWriters):
        self.leaving = asyncio.Event()
        self.leave = Leave.within(3600.0)
        self._writer = writer
        self._writers = writers

    async def append(self, rows: Extract) -> WriterReport:
        self._writers.trouble.strike()
        if self._writers.before_append is not None:
            await self._writers.before_append(rows)
        return self._reported(await self._writer.append(rows))

    async def skip(self, span: Span) -> WriterReport:
        return self._reported(await self._writer.skip(span))

    async def flush(self, reason: str) -> WriterReport:
        return self._reported(await self._writer.flush(reason))

    async def discard(self) -> None:
        self._writers.open_now -= 1
        await self._writer.discard()

    async def leaves(self) -> Leave:
        await self.leaving.wait()
        return self.leave

    def _reported(self, report: WriterReport) -> WriterReport:
        self._writers.reports.append(report)
        return report
