"""Fetch and decode the blocks of a sample as an extractor would."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

from ampd_ray.chain.ranges import Span
from ampd_ray.client.planning.parquet import no_collector
from ampd_ray.client.planning.seen import Run, Sample
from ampd_ray.client.planning.strata import Stratum
from ampd_ray.datasets.evm.verdicts import Level
from ampd_ray.errors import AmpdError, BlockUnavailable
from ampd_ray.materialize.extract import Extractor
from ampd_ray.materialize.types import Extract, RangeTask
from ampd_ray.providers.evm_rpc import EvmRpcSource, Timing
from ampd_ray.providers.provider import ProviderConfig

LANES = 4  # runs at a time: a person waits, and the provider is not to be pressed
WITHIN_SECS = 12.0  # after that no more runs are begun
MOST_BYTES = 96 << 20  # of JSON
TIMED_BLOCKS, TIMED_BYTES, TIMED_SECS = 96, 16 << 20, 3.0  # in one go at the end, for their CPU
SEARCH_SECS = 5.0  # for the first block that is served
PATIENT = Timing(fault_delays=(0.2,), reorg_delays=(0.1, 0.5), give_up_secs=2.0)
AT_ONCE = Timing(fault_delays=(), reorg_delays=(), give_up_secs=0.0)

OnProgress = Callable[[int, int], None]
"""Is told how many of so many blocks were looked at."""


class Sampler:
    """One sample of ``strata`` from one provider; ``level`` is how far blocks are verified."""

    def __init__(
        self,
        config: ProviderConfig,
        chain_id: int,
        strata: Sequence[Stratum],
        tables: Sequence[str],
        level: Level = Level.OFF,
        on_progress: OnProgress = lambda done, of: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._chain_id = chain_id
        self._strata = strata
        self._tables = tuple(tables)
        self._level = level
        self._on_progress = on_progress
        self._clock = clock
        self._found = Sample()

    async def take(self) -> Sample:
        """Look at both ends, then at the others as long as there is time.

        Raises the ``ProviderError`` of the first block if that cannot be had at all, and that of any other if most
        cannot be.
        """
        began = self._clock()
        middle = deque(range(1, len(self._strata) - 1))
        Random(len(middle)).shuffle(middle)  # noqa: S311 - if time is short, what was seen is spread over all
        async with self._lane() as first:
            await self._look(first, 0)
            if len(self._strata) > 1:
                await self._look(first, len(self._strata) - 1)
            self._found.finalized = await _finalized(first.source)
            await self._look_at_all(first, middle, began + WITHIN_SECS)
            self._check()
            await self._time(first)
            self._found.batch_size = first.source.batch_size
            self._found.per_transaction = first.source.receipts_per_transaction
        await self._find_first_served()
        self._found.secs = self._clock() - began
        return self._found

    async def _look_at_all(self, first: _Lane, todo: deque[int], until: float) -> None:
        async def work(lane: _Lane) -> None:
            while todo and self._clock() < until and self._found.wire_bytes < MOST_BYTES:
                if not self._below_what_is_served(at := todo.popleft()):
                    await self._look(lane, at)

        async def another() -> None:
            async with self._lane() as lane:
                await work(lane)

        async with asyncio.TaskGroup() as group:
            group.create_task(work(first))
            for _ in range(min(LANES, len(todo)) - 1):
                group.create_task(another())

    def _below_what_is_served(self, at: int) -> bool:
        """Where the first block is not served, what is lower than another that is not is not asked for."""
        unserved = self._found.unserved
        if 0 not in unserved or at > max(unserved):
            return False
        unserved[at] = unserved[0]
        return True

    async def _look(self, lane: _Lane, at: int) -> None:
        """One run; what is wrong with it is noted."""
        found = self._found
        try:
            found.runs[at], found.extracts[at] = await lane.run(self._strata[at].run)
        except BlockUnavailable as error:
            found.unserved[at] = error
        except AmpdError as error:
            if not found.runs and not found.unserved:
                raise
            found.faults.append(error)
        found.throttled += lane.throttled()
        self._on_progress(found.blocks, sum(len(stratum.run) for stratum in self._strata))

    async def _time(self, lane: _Lane) -> None:
        """The CPU of blocks as they come in a task, many at a time; of such blocks as most of the bytes are in."""
        found = self._found
        size = {at: run.wire_bytes / len(run.span) for at, run in found.runs.items()}
        typical = sum(each * each for each in size.values()) / sum(size.values())
        roomy = [at for at in size if len(self._strata[at]) > len(self._strata[at].run)]  # not the ends
        at = min(roomy or size, key=lambda at: abs(size[at] - typical))
        home = next(span for span in self._strata[at].blocks if found.runs[at].span.start in span)
        blocks = max(1, min(TIMED_BLOCKS, int(TIMED_BYTES / size[at]), self._unhurried_blocks()))
        first = max(home.start, min(found.runs[at].span.start, home.end - blocks + 1))
        with contextlib.suppress(AmpdError, TimeoutError), no_collector():
            began = time.process_time()
            async with asyncio.timeout(TIMED_SECS):
                run, _ = await lane.run(Span(first, min(first + blocks - 1, home.end)))
            found.cpu_secs, found.cpu_bytes = time.process_time() - began, run.wire_bytes

    def _unhurried_blocks(self) -> int:
        """So many that the provider's rate limit does not have them wait."""
        limit = self._config.rate_limit_per_minute
        return TIMED_BLOCKS if limit is None else limit // 10

    def _check(self) -> None:
        """A sample of less than half is none, but of a node that has pruned the rest."""
        found = self._found
        if not found.runs or len(found.faults) > len(found.runs):
            raise [*found.faults, *found.unserved.values()][0]

    async def _find_first_served(self) -> None:
        """If all that is lacking is lower than all that is there: where it begins to be there, by halves."""
        found = self._found
        if not found.unserved or max(found.unserved) > min(found.runs):
            return
        low, high = self._strata[max(found.unserved)].run.end, self._strata[min(found.runs)].run.start
        until = self._clock() + SEARCH_SECS
        async with self._lane(AT_ONCE) as lane:
            while high - low > 1 and self._clock() < until:
                middle = (low + high) // 2
                try:
                    await lane.run(Span(middle, middle))
                except BlockUnavailable:
                    low = middle
                except AmpdError:
                    break  # a fault says nothing of where it begins
                else:
                    high = middle
        found.first_served = high

    @asynccontextmanager
    async def _lane(self, timing: Timing = PATIENT) -> AsyncIterator[_Lane]:
        source = EvmRpcSource(self._config, expected_chain_id=self._chain_id, timing=timing)
        extractor = Extractor(lambda provider, network: source)
        task = RangeTask(
            job_id=0,
            partition=0,
            span=Span(0, 0),
            tables=self._tables,
            provider=self._config.name,
            network=self._config.network,
            verify=self._level,
            chain_id=self._chain_id,
        )
        try:
            yield _Lane(source, extractor, task)
        finally:
            await extractor.close()
            await source.close()


class _Lane:
    """Runs one after the other, so that what the source counts is theirs."""

    def __init__(self, source: EvmRpcSource, extractor: Extractor, task: RangeTask) -> None:
        self.source = source
        self._extractor = extractor
        self._task = task
        self._throttled = 0

    async def run(self, span: Span) -> tuple[Run, Extract]:
        """Raises as an extractor does."""
        opening = self.source.chain is None  # then it asks for that first
        before = self.source.stats()
        summary, extract = await self._extractor.extract(replace(self._task, span=span))
        after = self.source.stats()
        calls = after.calls - before.calls - (after.retries - before.retries) - opening
        run = Run(
            span=span,
            rows=summary.rows,
            arrow_bytes={name: table.nbytes for name, table in extract.tables.items()},
            receipt_calls=max(0, calls - len(span)),
            wire_bytes=after.bytes_received - before.bytes_received,
            fetch_secs=summary.fetch_secs,
        )
        return run, extract

    def throttled(self) -> int:
        """How often the provider refused since this was asked last."""
        before, self._throttled = self._throttled, self.source.stats().throttled
        return self._throttled - before


async def _finalized(source: EvmRpcSource) -> int | None:
    """The highest final block: files end there. None where there is none."""
    try:
        return (await source.head("finalized")).number
    except AmpdError:
        return None
