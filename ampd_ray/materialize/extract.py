"""Turn a span of block numbers into checked Arrow tables: the whole work of an extractor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from ampd_ray.datasets.evm.decode import decode, links
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.verify import Level, Result, Verdict, verify_blocks
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.errors import DataFault, Unverifiable, ValueOverflow, wrong_chain
from ampd_ray.materialize.sources import BlockSource, OpenSource, Sources, same_for_ever
from ampd_ray.materialize.types import Extract, ExtractSummary, RangeTask, Verified


class Extractor:
    """Extracts tasks of any job. ``open_source(provider, network)`` makes a source, which stays open between tasks.

    ``told(provider)`` is what the provider's file says: once that changes, its source is opened anew.
    """

    def __init__(self, open_source: OpenSource, told: Callable[[str], object] = same_for_ever):
        self._sources = Sources(open_source, told)
        self._reported: WeakKeyDictionary[BlockSource, tuple[int, int, int]] = WeakKeyDictionary()

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Extract]:
        """Fetch, check and decode ``task.span``. Raises ``ProviderError``, ``ValueOverflow`` or ``WrongChain``."""
        async with self._sources.use(task.provider, task.network) as source:
            if task.chain_id is not None and task.chain_id != source.chain:
                raise wrong_chain(task.provider, task.network, source.chain, task.chain_id)
            started = time.monotonic()
            blocks = await source.fetch(task.span)
            fetched = time.monotonic()
            requests, retries, nbytes = self._count(source)
        extract = await asyncio.to_thread(_decode, blocks, task, source.chain)
        decoded = time.monotonic()
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
        await self._sources.close()

    def _count(self, source: BlockSource) -> tuple[int, int, int]:
        """Requests, retries and bytes since the last summary: tasks overlap, so none can count its own."""
        stats = source.stats()
        now = (stats.requests, stats.retries, stats.bytes_received)
        then = self._reported.get(source, (0, 0, 0))
        self._reported[source] = now
        return now[0] - then[0], now[1] - then[1], now[2] - then[2]


def _decode(blocks: Sequence[BlockAndReceipts], task: RangeTask, chain_id: int | None) -> Extract:
    """Rows and links; verification needs all tables, whatever the task asked for."""
    try:
        tables = decode(blocks, task.network, task.tables if task.verify is Level.OFF else TABLES)
    except (DataFault, ValueOverflow) as error:
        message = f"{error.message} (provider {task.provider}). Nothing was written of it; try another provider."
        raise type(error)(message, **error.details | {"provider": task.provider}) from None
    verified = _verified(verify_blocks(tables, blocks, task.verify, chain_id), task)
    return Extract(task.span, links(blocks, task.network), {name: tables[name] for name in task.tables}, verified)


def _verified(verdicts: Sequence[Verdict], task: RangeTask) -> Verified:
    """What is known of the rows. A block whose header contradicts them is never written (``spec/data.md`` 9.4)."""
    if not verdicts:
        return Verified.NONE
    for verdict in verdicts:
        if verdict.failed:
            raise DataFault(
                f"{task.network} block {verdict.block}: {verdict.check} of provider {task.provider} does not match "
                f"its rows (computed {verdict.computed}, expected {verdict.expected}). Nothing of the block "
                "was written; check the provider.",
                provider=task.provider,
                block=verdict.block,
                check=verdict.check,
            )
    partly = next((verdict for verdict in verdicts if verdict.result is not Result.PASS), None)
    if partly is None:
        return Verified(task.verify)
    if task.wholly:
        raise Unverifiable(
            f"{task.network} block {partly.block}: {partly.check} cannot be verified, it needs {partly.missing}. Set "
            '`ampd_ray.verify_unsupported = "write"` to have such blocks written, marked as verified in part.',
            block=partly.block,
            check=partly.check,
        )
    return Verified.PARTIAL
