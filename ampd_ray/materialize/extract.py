"""Turn a span of block numbers into checked Arrow tables: the whole work of an extractor."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from weakref import WeakKeyDictionary

import pyarrow as pa

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.intake import Intake
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, BlockText
from ampd_ray.datasets.evm.verify import Level, Result, Verdict, verify_blocks
from ampd_ray.errors import DataFault, HandedBack, Unverifiable, ValueOverflow, wrong_chain
from ampd_ray.materialize.leaving import Leave
from ampd_ray.materialize.sources import BlockSource, OpenSource, Sources, same_for_ever
from ampd_ray.materialize.types import Extract, ExtractSummary, Load, RangeTask, Verified


class Extractor:
    """Extracts tasks of any job. ``open_source(provider, network)`` makes a source, which stays open between tasks.

    ``told(provider)`` is what the provider's file says: once that changes, its source is opened anew.
    """

    def __init__(self, open_source: OpenSource, told: Callable[[str], object] = same_for_ever):
        self._sources = Sources(open_source, told)
        self._reported: WeakKeyDictionary[BlockSource, tuple[int, int, int]] = WeakKeyDictionary()
        self._notice = _Notice()
        self._looked_at = time.monotonic()
        self._cpu_secs = time.process_time()

    def leave(self, leave: Leave) -> None:
        """The machine is about to go: tasks are handed back as ``leave`` says. Told again, the earlier times hold."""
        self._notice.give(leave)

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Extract]:
        """Fetch, check and decode ``task.span``; after a notice its first blocks, as far as there is time.

        Raises ``ProviderError``, ``ValueOverflow``, ``WrongChain``, or ``HandedBack`` if there is time for none.
        """
        async with self._sources.use(task.provider, task.network) as source:
            if task.chain_id is not None and task.chain_id != source.chain:
                raise wrong_chain(task.provider, task.network, source.chain, task.chain_id)
            source.use(task.share)
            started, work = time.monotonic(), _Work(task, source.chain)
            try:
                async with (
                    self._notice.heeded(),
                    aclosing(source.fetch(task.span, work.take, self._notice.allows_more)) as blocks,
                ):
                    async for block in blocks:
                        work.add(block)
                extract = work.finish()
                assert self._notice.given or extract.span == task.span, "blocks are missing"
            finally:
                work.drop()
            requests, retries, nbytes = self._count(source)
        summary = ExtractSummary(
            span=extract.span,
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


class _Notice:
    """What all tasks of an extractor know of the end of its machine."""

    def __init__(self) -> None:
        self._ask_no_more_at = self._hand_back_at = math.inf
        self._limits: set[asyncio.Timeout] = set()

    @property
    def given(self) -> bool:
        """Whether there is an end."""
        return not math.isinf(self._hand_back_at)

    def give(self, leave: Leave) -> None:
        """From now on there is an end."""
        now = asyncio.get_running_loop().time()
        self._ask_no_more_at = min(self._ask_no_more_at, now + leave.ask_no_more)
        self._hand_back_at = min(self._hand_back_at, now + leave.hand_back)
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(self._hand_back_at)

    def allows_more(self) -> bool:
        """Whether a task may ask for more blocks."""
        return asyncio.get_running_loop().time() < self._ask_no_more_at

    @asynccontextmanager
    async def heeded(self) -> AsyncIterator[None]:
        """Break the block off, without an error, when it is time to hand back what there is."""
        limit = asyncio.timeout_at(self._hand_back_at if self.given else None)
        try:
            async with limit:
                self._limits.add(limit)
                yield
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            self._limits.discard(limit)


class _Work:
    """The rows of one task, decoded and verified on the event loop, some blocks at a time.

    A thread would save nothing: it would wait for the same interpreter, and read blocks that have left the cache.
    """

    def __init__(self, task: RangeTask, chain_id: int | None) -> None:
        self._task = task
        self._chain_id = chain_id
        self.secs = 0.0  # spent here
        self._verified: set[Verified] = set()
        self._blocks = 0
        look = None if task.verify is Level.OFF else self._verify
        self._intake = Intake(task.network, task.tables, look)

    def take(self, text: BlockText) -> bool:
        """Take the next block as text, if that can be."""
        with self._named():
            taken = self._intake.take(text)
        self._blocks += taken
        return taken

    def add(self, block: BlockAndReceipts) -> None:
        """Take the next block."""
        with self._named():
            self._intake.add(block)
        self._blocks += 1

    def finish(self) -> Extract:
        """All that was taken. Raises ``HandedBack`` if that is nothing."""
        asked = self._task.span
        if not self._blocks:
            raise HandedBack(f"the machine is about to go: blocks {asked} are left to others")
        with self._named():
            decoded = self._intake.finish()
        span = Span(asked.start, asked.start + self._blocks - 1)
        return Extract(span, decoded.links, decoded.tables, Verified.least(self._verified or {Verified.NONE}))

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
