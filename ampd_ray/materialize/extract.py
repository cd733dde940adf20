"""Turn a span of block numbers into checked Arrow tables: the whole work of an extractor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.decode import decode, links
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.verify import Verdict, verify_blocks
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.errors import DataFault
from ampd_ray.materialize.types import Extract, ExtractSummary, RangeTask


class SourceStats(Protocol):
    """Counters of a source since it was opened."""

    @property
    def requests(self) -> int:
        """HTTP requests, or messages, sent."""

    @property
    def retries(self) -> int:
        """Those that repeated another one."""

    @property
    def bytes_received(self) -> int:
        """Bytes of their answers."""


class BlockSource(Protocol):
    """Where blocks come from: one provider of one network."""

    async def start(self) -> None:
        """Open it and compare its chain id; raises ``WrongChain`` or a ``ProviderError``."""

    async def fetch(self, span: Span) -> Sequence[BlockAndReceipts]:
        """All blocks of ``span`` in order, each with its receipts, checked (``spec/data.md`` 2.3)."""

    def stats(self) -> SourceStats:
        """Counters since it was opened."""

    async def close(self) -> None:
        """Close its connections."""


OpenSource = Callable[[str, str], BlockSource]


class Extractor:
    """Extracts tasks of any job. ``open_source(provider, network)`` makes a source; sources stay open between tasks."""

    def __init__(self, open_source: OpenSource):
        self._open_source = open_source
        self._sources: dict[tuple[str, str], asyncio.Task[BlockSource]] = {}
        self._reported: dict[BlockSource, tuple[int, int, int]] = {}

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Extract]:
        """Fetch, check and decode ``task.span``. Raises ``ProviderError``, ``ValueOverflow`` or ``WrongChain``."""
        source = await self._source(task.provider, task.network)
        started = time.monotonic()
        blocks = await source.fetch(task.span)
        fetched = time.monotonic()
        extract = await asyncio.to_thread(_decode, blocks, task)
        decoded = time.monotonic()
        requests, retries, nbytes = self._count(source)
        summary = ExtractSummary(
            span=task.span,
            rows={name: table.num_rows for name, table in extract.tables.items()},
            nbytes=sum(table.nbytes for table in extract.tables.values()),
            requests=requests,
            retries=retries,
            rpc_bytes=nbytes,
            fetch_secs=fetched - started,
            decode_secs=decoded - fetched,
        )
        return summary, extract

    async def close(self) -> None:
        """Close all sources."""
        for opening in self._sources.values():
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
        self._sources.clear()
        self._reported.clear()

    def _count(self, source: BlockSource) -> tuple[int, int, int]:
        """Requests, retries and bytes since the last summary: tasks overlap, so none can count its own."""
        stats = source.stats()
        now = (stats.requests, stats.retries, stats.bytes_received)
        then = self._reported.get(source, (0, 0, 0))
        self._reported[source] = now
        return now[0] - then[0], now[1] - then[1], now[2] - then[2]

    async def _source(self, provider: str, network: str) -> BlockSource:
        """The open source for a provider; a failed opening is forgotten, so that the next task tries again."""
        key = (provider, network)
        if key not in self._sources:
            self._sources[key] = asyncio.create_task(self._start(provider, network))
        opening = self._sources[key]
        try:
            return await asyncio.shield(opening)
        except BaseException:
            if opening.done() and self._sources.get(key) is opening:
                del self._sources[key]
            raise

    async def _start(self, provider: str, network: str) -> BlockSource:
        source = self._open_source(provider, network)
        try:
            await source.start()
        except BaseException:
            await source.close()
            raise
        return source


def _decode(blocks: Sequence[BlockAndReceipts], task: RangeTask) -> Extract:
    """Rows and links; verification needs all tables, whatever the task asked for."""
    tables = decode(blocks, task.network, TABLES if task.verify else task.tables)
    if task.verify:
        _demand_verified(verify_blocks(tables, blocks), task)
    return Extract(task.span, links(blocks, task.network), {name: tables[name] for name in task.tables})


def _demand_verified(verdicts: Sequence[Verdict], task: RangeTask) -> None:
    """A block whose roots do not match its rows is never written (``spec/data.md`` 9.4)."""
    for verdict in verdicts:
        if verdict.failed:
            raise DataFault(
                f"{task.network} block {verdict.block}: {verdict.check} of provider {task.provider} does not match "
                f"its rows (computed {verdict.computed}, expected {verdict.expected}). Nothing was written; "
                "check the provider, or deploy without --verify.",
                provider=task.provider,
                block=verdict.block,
                check=verdict.check,
            )
