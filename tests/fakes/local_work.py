"""Extractors and writers in this process: a whole job without Ray, and with a way to let things fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ampd_ray.errors import AmpdError
from ampd_ray.materialize.extract import Extractor
from ampd_ray.materialize.types import ExtractSummary, Partition, RangeTask, WriterReport
from ampd_ray.materialize.write import PartitionWriter
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import Store


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
    """The port ``Extractors`` without processes."""

    def __init__(self, extractor: Extractor, *, tasks: int = 4):
        self.trouble = Trouble()
        self.spans: list[Any] = []
        self._extractor = extractor
        self._tasks = tasks

    def wanted_tasks(self) -> int:
        return self._tasks

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Any]:
        self.trouble.strike()
        self.spans.append(task.span)
        return await self._extractor.extract(task)


class LocalWriters:
    """The port ``Writers`` without processes. ``wrap`` may replace a partition's writer."""

    def __init__(self, db: Database, store: Store, wrap: Callable[[Any], Any] = lambda writer: writer):
        self.partitions: list[Partition] = []
        self.trouble = Trouble()
        self._db = db
        self._store = store
        self._wrap = wrap

    async def open(self, partition: Partition) -> Any:
        self.partitions.append(partition)
        return self._wrap(LocalPartition(PartitionWriter(partition, self._db, self._store), self.trouble))


class LocalPartition:
    """The port ``WriterHandle`` without processes."""

    def __init__(self, writer: PartitionWriter, trouble: Trouble):
        self._writer = writer
        self._trouble = trouble

    async def append(self, rows: Any) -> WriterReport:
        self._trouble.strike()
        return await self._writer.append(rows)

    async def flush(self, reason: str) -> WriterReport:
        return await self._writer.flush(reason)

    async def discard(self) -> None:
        await self._writer.discard()
