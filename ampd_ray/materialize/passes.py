"""The passes of one job: what is missing is cut into units, and one pass after another carries them out.

After a loss nothing is patched up: the next pass begins under new leases, so that what was lost commits no more, with
the index read anew from Postgres.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from ampd_ray.chain.ranges import Span, intersect, merge, subtract
from ampd_ray.errors import AmpdError, JobFailed, NoGoodBlock
from ampd_ray.materialize import plan
from ampd_ray.materialize.faults import SETTLED_BLOCKS, Doubts
from ampd_ray.materialize.heads import Head, Heads
from ampd_ray.materialize.holes import Holes
from ampd_ray.materialize.index import SegmentIndex
from ampd_ray.materialize.meter import Meter
from ampd_ray.materialize.orders import Orders
from ampd_ray.materialize.patience import patiently, step
from ampd_ray.materialize.perform import Extractors, Pass, WriterHandle
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.setup import Environment, JobSpec, Opened
from ampd_ray.materialize.state import JobState, Limits
from ampd_ray.materialize.types import Partition, WriterReport

# Passes in a row that end early without committing anything, before the job is given up for a while.
MAX_FRUITLESS_PASSES = 5
FRUITLESS_PAUSE_SECS = 0.2  # after the first of them; doubled with each


class Writers(Protocol):
    """The writers that this node can use."""

    async def open(self, partition: Partition) -> WriterHandle:
        """Give a partition to the least loaded writer; raises ``ActorLost``."""


class Passes:
    """Plans and runs the passes of one run of a job. ``renew`` gives new leases, under a new epoch.

    ``fruitless`` counts the passes in a row that lost something and committed nothing; ``cut_short``: the stop came
    before blocks were committed.
    """

    def __init__(
        self,
        spec: JobSpec,
        env: Environment,
        meter: Meter,
        workforce: tuple[Extractors, Writers],
        renew: Callable[[Opened], Awaitable[Opened]],
    ):
        self.index = SegmentIndex()
        self.fruitless = 0
        self.stopping = asyncio.Event()
        self.cut_short = False
        self._spec = spec
        self._env = env
        self._meter = meter
        self._extractors, self._writers = workforce
        self._renew = renew
        self._pass: Pass | None = None
        self._leases_good = True
        self._arrow_density: float | None = None  # bytes a block, in memory
        self._block_secs: float | None = None  # of a task, for one of its blocks
        self._file_density: float | None = None  # bytes a block, on disk
        self._nothing_at: object = None  # what was asked when nothing was missing
        self._holes = Holes(env.db, spec)
        self._nothing_there = False  # in any table of the dataset, when the index was read
        self._doubts: Doubts | None = None

    def stop(self, deadline_secs: float) -> bool:
        """Commit what can be committed within ``deadline_secs``; False if nothing is under way."""
        self.stopping.set()
        if self._pass is None:
            return False
        self._pass.stop(deadline_secs)
        return True

    def leases_changed(self, good: bool) -> None:
        """Without good leases nothing is handed out; what is under way goes on, and its epoch stops it if need be."""
        self._leases_good = good
        if self._pass is not None:
            self._pass.leases_changed(good)

    async def load_index(self, opened: Opened) -> None:
        """Read from Postgres what is there."""
        async with step("MISSING_RANGES"):
            await patiently(lambda: self.index.load(self._env.db, opened.locations))
            await patiently(self._holes.load)
            # An earlier run may have found no good block, and have been ended before it could say so.
            self._nothing_there = self.index.empty and await self._holes.take_back(opened)

    async def wait(self, reason: str, secs: float | None = None) -> None:
        """Wait for the next look, or the stop."""
        self._meter.waiting_for(reason)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), self._env.poll_secs if secs is None else secs)

    async def plan(self, opened: Opened, top: int, end: int | None, beside: Head | None) -> tuple[list[Unit], bool]:
        """What is missing up to ``top``, and whether some of it replaces files that are there.

        ``beside``: the head, if it may be another block of the height of our tip.
        """
        start = opened.manifest.start_block
        asked = (top, end, None if beside is None else beside.hash, self.index.version)
        if top < start or asked == self._nothing_at:
            return [], False
        wanted = Span(start, top)
        after = None if beside is None else plan.after(beside.number, beside.hash, opened.manifest.network)
        lacking = await self.index.lacking(wanted, after, self._holes.spans)
        missing = {table: subtract(each.spans, self._holes.spans) for table, each in lacking.items()}
        left = sum(len(span) for span in merge(span for spans in missing.values() for span in spans))
        aside = sum(map(len, intersect(self._holes.spans, wanted)))
        self._meter.planned(None if end is None else end - start + 1, len(wanted) - left - aside, aside)
        writers = self._spec.descriptor.max_writers
        size = self._env.unit_blocks or plan.unit_blocks(self._file_density, blocks=left, writers=writers)
        units = plan.one_pass(
            plan.plan(missing, unit_blocks=size), density_known=self._file_density is not None, writers=writers
        )
        if not units:
            self._nothing_at = asked
        repairs = any(each.repairs for each in lacking.values())
        return units, repairs

    async def run(self, opened: Opened, units: list[Unit], heads: Heads) -> Opened:
        """Carry ``units`` out; what comes back is what to go on with: new leases, if something was lost."""
        finalized = await heads.finalized() if sum(len(unit.span) for unit in units) > 1 else None
        orders = Orders(self._spec, self._env.options, opened, self.index, finalized, self._env.wholly)
        machine = JobState(
            units,
            Limits(
                max_partitions=self._spec.descriptor.max_writers,
                max_tasks=self._extractors.slots(sum(len(unit.span) for unit in units)),
                memory_bytes=self._env.memory_bytes,
                flush_secs=self._env.flush_secs,
            ),
            bytes_per_block=self._arrow_density,
            secs_per_block=self._block_secs,
            now=time.monotonic(),
            doubts=self._doubts_of(opened, heads),
        )
        self._meter.follow(machine)
        totals = self._meter.totals
        files, nbytes, blocks = totals.files, totals.nbytes, totals.blocks
        self._pass = current = Pass(
            machine,
            self._extractors,
            orders.task,
            lambda number, unit: self._writers.open(orders.partition(number, unit)),
            on_extracted=self._meter.extracted,
            on_report=self._on_report,
            set_aside=lambda block, faults: self._set_aside(opened, block, faults),
        )
        current.leases_changed(self._leases_good)
        try:
            async with step("PARTITION_TASK"):
                error = await current.run()
                if error is not None:
                    if isinstance(error, NoGoodBlock) and self.index.empty:
                        await self._holes.take_back(opened)
                    raise error
        finally:
            self._pass = None
            self.cut_short |= current.cut_short
        self._arrow_density, self._block_secs = machine.bytes_per_block, machine.secs_per_block
        if totals.blocks > blocks:
            self._file_density = (totals.nbytes - nbytes) / (totals.blocks - blocks)
        return await self._after(opened, replan=current.replan, committed=totals.files > files)

    async def _after(self, opened: Opened, *, replan: bool, committed: bool) -> Opened:
        """After a loss nothing is patched up: new leases, so that what was lost commits no more, and the index anew."""
        self.fruitless = 0 if committed or not replan else self.fruitless + 1
        if self.fruitless >= MAX_FRUITLESS_PASSES:
            raise JobFailed(
                f"{self.fruitless} passes in a row lost their writers and committed nothing; the log names the causes",
                step="PARTITION_TASK",
                retryable=True,
            )
        if not replan or self.stopping.is_set():
            return opened
        if self.fruitless:
            await self.wait("writer", FRUITLESS_PAUSE_SECS * 2 ** (self.fruitless - 1))
        opened = await self._renew(opened)
        await self.load_index(opened)
        return opened

    async def _set_aside(self, opened: Opened, block: int, faults: Mapping[int, AmpdError]) -> None:
        await self._holes.add(opened, block, faults)
        self._meter.set_aside(block)

    def _on_report(self, report: WriterReport) -> None:
        """Own commits go straight into the index."""
        self.index.note(report)
        self._meter.reported(report)

    async def check_hope(self, opened: Opened) -> None:
        """Nothing is left to do. Raises NoGoodBlock if that is because this run set every block aside."""
        if self.index.empty and self._doubts is not None and self._doubts.barren:
            error = self._doubts.despair()
            await self._holes.take_back(opened)
            async with step("PARTITION_TASK"):
                raise error

    def _doubts_of(self, opened: Opened, heads: Heads) -> Doubts:
        """What is known of the providers, from one pass to the next."""
        if self._doubts is None:
            self._doubts = Doubts(
                len(opened.providers), quarantine=self._env.quarantine, any_good=not self._nothing_there
            )
        self._doubts.settled = heads.number - SETTLED_BLOCKS
        return self._doubts
