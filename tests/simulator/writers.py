"""Writers in processes of their own, which may live on when their job has lost sight of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import ActorLost, Fenced, Overlap
from ampd_ray.materialize.leaving import Leave
from ampd_ray.materialize.types import Partition, WriterReport
from ampd_ray.materialize.write import PartitionWriter
from tests.fakes.local_work import never
from tests.simulator.process import Process

if TYPE_CHECKING:
    from tests.simulator.node import Node


class Writers:
    """The port ``Writers``: processes of their own, which may live on when their job has lost sight of them."""

    def __init__(self, node: Node):
        self.all: list[WriterProcess] = []
        self._node = node

    async def open(self, partition: Partition) -> WriterProcess:
        process = self._node.world.process(f"{self._node.name}w{len(self.all) + 1}", self._node.node_id)
        world = self._node.world
        writer = WriterProcess(process, PartitionWriter(partition, self._node.db, world.store), world.faults.counts)
        self.all.append(writer)
        return writer

    def busy(self) -> list[WriterProcess]:
        """Those that do something."""
        return [writer for writer in self.all if writer.calls and not writer.process.gone]


class WriterProcess:
    """The port ``WriterHandle``. A call goes on when nobody waits for it any more."""

    def __init__(self, process: Process, writer: PartitionWriter, counts: Counter[str]):
        self.process = process
        self._counts = counts
        self.calls: set[asyncio.Task[Any]] = set()
        self._lost = asyncio.Event()
        self._writer = writer

    def lose(self) -> None:
        """Its job hears nothing of it any more."""
        self._lost.set()

    async def append(self, rows: Any) -> WriterReport:
        report: WriterReport = await self._call(self._writer.append(rows))
        return report

    async def skip(self, span: Span) -> WriterReport:
        report: WriterReport = await self._call(self._writer.skip(span))
        return report

    async def flush(self, reason: str) -> WriterReport:
        report: WriterReport = await self._call(self._writer.flush(reason))
        return report

    async def discard(self) -> None:
        await self._call(self._writer.discard())

    async def leaves(self) -> Leave:
        return await never()

    async def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        call = self.process.kernel.spawn(self.process, work)
        lost = asyncio.ensure_future(self._lost.wait())
        self.calls.add(call)
        call.add_done_callback(self._ended)
        try:
            await asyncio.wait({call, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if self.process.gone or not call.done():
            raise ActorLost("the writer does not answer any more")
        return call.result()

    def _ended(self, call: asyncio.Task[Any]) -> None:
        self.calls.discard(call)
        error = None if call.cancelled() else call.exception()
        self._counts["fenced"] += isinstance(error, Fenced)
        self._counts["overlaps"] += isinstance(error, Overlap)
