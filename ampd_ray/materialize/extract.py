"""Turn a span of block numbers into checked Arrow tables: the whole work of an extractor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from weakref import WeakKeyDictionary

import pyarrow as pa

from ampd_ray.datasets.evm.intake import Intake
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, BlockText
from ampd_ray.datasets.evm.verify import Level, Result, Verdict, verify_blocks
from ampd_ray.errors import DataFault, Unverifiable, ValueOverflow, wrong_chain
from ampd_ray.materialize.sources import BlockSource, OpenSource, Sources, same_for_ever
from ampd_ray.materialize.types import Extract, ExtractSummary, Load, RangeTask, Verified


class Extractor:
    """Extracts tasks of any job. ``open_source(provider, network)`` makes a source, which stays open between tasks.

    ``told(provider)`` is what the provider's file says: once that changes, its source is opened anew.
    """

    def __init__(self, open_source: OpenSource, told: Callable[[str], object] = same_for_ever):
        self._sources = Sources(open_source, told)
        self._reported: WeakKeyDictionary[BlockSource, tuple[int, int, int]] = WeakKeyDictionary()
        self._looked_at = time.monotonic()
        self._cpu_secs = time.process_time()

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Extract]:
        """Fetch, check and decode ``task.span``. Raises ``ProviderError``, ``ValueOverflow`` or ``WrongChain``."""
        async with self._sources.use(task.provider, task.network) as source:
            if task.chain_id is not None and task.chain_id != source.chain:
                raise wrong_chain(task.provider, task.network, source.chain, task.chain_id)
            source.use(task.share)
            started, work = time.monotonic(), _Work(task, source.chain)
            try:
                async with aclosing(source.fetch(task.span, work.take)) as blocks:
                    async for block in blocks:
                        work.add(block)
                extract = work.finish()
            finally:
                work.drop()
            requests, retries, nbytes = self._count(source)
        summary = ExtractSummary(
            span=task.span,
            rows={name: table.num_rows for name, table in extract.tables.items()},
            nbytes=sum(table.nbytes for table in extract.tables.values()),
            requests=requests,
            retries=retries,
            rpc_bytes=nbytes,
            fetch_secs=time.monotonic() - started - work.secs,
            decode_secs=work.secs,
        )
        return summary, extract

    def load(self) -> Load:
        """What this process, which does nothing else, did since it was last asked."""
        now, cpu_secs, sources = time.monotonic(), time.process_time(), self._sources.in_use()
        busy = (cpu_secs - self._cpu_secs) / max(now - self._looked_at, 1e-3)
        self._looked_at, self._cpu_secs = now, cpu_secs
        return Load(
            busy=min(1.0, busy),
            full=any(source.full and not source.held for source in sources),
            room=not sources or any(not source.held for source in sources),
        )

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


class _Work:
    """The rows of one task, decoded and verified on the event loop, some blocks at a time.

    A thread would save nothing: it would wait for the same interpreter, and read blocks that have left the cache.
    """

    def __init__(self, task: RangeTask, chain_id: int | None) -> None:
        self._task = task
        self._chain_id = chain_id
        self.secs = 0.0  # spent here
        self._verified: set[Verified] = set()
        look = None if task.verify is Level.OFF else self._verify
        self._intake = Intake(task.network, task.tables, look)

    def take(self, text: BlockText) -> bool:
        """Take the next block as text, if that can be."""
        with self._named():
            return self._intake.take(text)

    def add(self, block: BlockAndReceipts) -> None:
        """Take the next block."""
        with self._named():
            self._intake.add(block)

    def finish(self) -> Extract:
        """All of the task."""
        with self._named():
            decoded = self._intake.finish()
        return Extract(
            self._task.span, decoded.links, decoded.tables, Verified.least(self._verified or {Verified.NONE})
        )

    def drop(self) -> None:
        """Let go of all rows: the traceback of an error may live on, and holds this for as long."""
        del self._intake

    def _verify(self, tables: dict[str, pa.Table], blocks: Sequence[BlockAndReceipts] | None) -> bool:
        """Without the blocks only rows that pass will do: what fails or lacks something is seen anew, with them."""
        verdicts = verify_blocks(tables, blocks, self._task.verify, self._chain_id)
        if blocks is None and any(verdict.result is not Result.PASS for verdict in verdicts):
            return False
        self._verified.add(_verified(verdicts, self._task))
        return True

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What cannot be decoded is the provider's: its name belongs to the error. Counts the time."""
        began = time.monotonic()
        try:
            yield
            self.secs += time.monotonic() - began
        except (DataFault, ValueOverflow) as error:
            if "provider" in error.details:
                raise
            provider = self._task.provider
            message = f"{error.message} (provider {provider}). Nothing was written of it; try another provider."
            raise type(error)(message, **error.details | {"provider": provider}) from None


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
