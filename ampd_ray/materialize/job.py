"""One job from its start to its end: plan what is missing, run a pass over it, look again.

The job keeps an index of the registered segments, fed by its own commits, and reads it anew from Postgres, under a
new epoch, whenever a pass was not carried out as planned. Following the head is the same loop as a backfill: the
missing range is then one block long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from ampd_ray import failpoints
from ampd_ray.chain.ranges import Span, merge
from ampd_ray.errors import AmpdError, Handling, JobFailed, Unexpected
from ampd_ray.materialize import plan, setup
from ampd_ray.materialize.heads import Head, Heads
from ampd_ray.materialize.index import SegmentIndex
from ampd_ray.materialize.leases import Claimant, JobLeases
from ampd_ray.materialize.meter import Meter
from ampd_ray.materialize.orders import Orders
from ampd_ray.materialize.patience import Standstill, patiently, step
from ampd_ray.materialize.perform import Extractors, Pass, WriterHandle
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.setup import Environment, JobSpec, Opened
from ampd_ray.materialize.state import JobState, Limits
from ampd_ray.materialize.sweep import Broom, Sweeper
from ampd_ray.materialize.types import JobOutcome, Location, Outcome, Partition, WriterReport
from ampd_ray.metadb import ends

logger = logging.getLogger(__name__)

# Passes in a row that end early without committing anything, before the job is given up for a while.
MAX_FRUITLESS_PASSES = 5
FRUITLESS_PAUSE_SECS = 0.2  # after the first of them; doubled with each
SWEEP_WITHIN_SECS = 5.0  # a job that is complete waits so long for the sweep that it began with


class Writers(Protocol):
    """The writers that this node can use."""

    async def open(self, partition: Partition) -> WriterHandle:
        """Give a partition to the least loaded writer; raises ``ActorLost``."""


class MaterializeJob:
    """A run of one job. ``run`` may be cancelled: nothing but uncommitted work is lost."""

    def __init__(self, spec: JobSpec, env: Environment, extractors: Extractors, writers: Writers):
        self.spec = spec
        self.meter = Meter(spec)
        self._env = env
        self._extractors = extractors
        self._writers = writers
        self._stop = asyncio.Event()
        self._running: asyncio.Task[JobOutcome] | None = None
        self._pass: Pass | None = None
        self._lost: AmpdError | None = None
        self._leases = JobLeases(
            Claimant(spec.job_id, spec.node_id, spec.incarnation, timedelta(seconds=env.lease_ttl_secs)),
            env.db,
            env.keeper,
            on_change=self._leases_changed,
            on_lost=self._leases_lost,
            on_wait=self.meter.waiting_for,
        )
        self._index = SegmentIndex()
        self._locations: tuple[Location, ...] = ()
        broom = Broom(env.db, env.data, env.options.collect_after_secs is not None, self._index.forget)
        self._sweeper = Sweeper(broom, self._held, env.sweep_every_secs)
        self._arrow_density: float | None = None  # bytes a block, in memory
        self._file_density: float | None = None  # bytes a block, on disk
        self._fruitless = 0
        self._standstill = Standstill(env.poll_secs)
        self._nothing_at: object = None  # what was asked when nothing was missing

    async def stop(self, deadline_secs: float) -> None:
        """Commit what can be committed within ``deadline_secs``, then end as STOPPED. Safe to call twice."""
        self._stop.set()
        if self._pass is not None:
            self._pass.stop(deadline_secs)
        elif self._running is not None:
            self._running.cancel()  # nothing is under way, and what it waits for may take long

    def cancel(self) -> None:
        """End at once, with ``CancelledError`` out of ``run``; what is not committed is dropped."""
        if self._running is not None:
            self._running.cancel()

    async def run(self) -> JobOutcome:
        """Run until the range is complete, the job is stopped, or it fails."""
        self._running = asyncio.create_task(self._run())
        reporting = asyncio.create_task(self.meter.report_forever(self._env.db))
        try:
            outcome = await self._outcome(self._running)
        finally:
            reporting.cancel()
            await asyncio.wait({reporting})
        if outcome.outcome is not Outcome.FENCED:  # the row is another node's now
            self.meter.ended(outcome.outcome)
            await self.meter.report(self._env.db)
        return outcome

    async def _outcome(self, running: asyncio.Task[JobOutcome]) -> JobOutcome:
        try:
            return await running
        except asyncio.CancelledError:
            if running.cancelled() and self._lost is not None:
                return JobOutcome(Outcome.FENCED, self._lost)
            if running.cancelled() and self._stop.is_set():
                return JobOutcome(Outcome.STOPPED)
            raise
        except AmpdError as error:
            fenced = error.handling is Handling.FENCED
            return JobOutcome(Outcome.FENCED if fenced else Outcome.FAILED, error)
        except Exception as error:
            logger.exception("unexpected failure of a job", extra={"job_id": self.spec.job_id})
            return JobOutcome(Outcome.FAILED, Unexpected.of(error))

    async def _run(self) -> JobOutcome:
        await failpoints.reach("job-claimed")
        try:
            opened = await setup.open_job(self.spec, self._env, self._leases)
            try:
                return await self._work(opened)
            finally:
                await opened.source.close()
        finally:
            await self._leases.release()

    async def _work(self, opened: Opened) -> JobOutcome:
        """Follow the chain to the end of the job; sweep meanwhile: whatever becomes of that, blocks are extracted."""
        self._locations = opened.locations
        sweeping = asyncio.create_task(self._sweeper.run())
        try:
            await self._load_index(opened)
            outcome = await self._follow(opened)
            if outcome.outcome is Outcome.COMPLETED:
                await self._sweeper.finish(SWEEP_WITHIN_SECS)
            return outcome
        finally:
            sweeping.cancel()
            await asyncio.wait({sweeping})

    # -- the leases of spec/commit.md 3 ---------------------------------------------------------------------------

    def _leases_changed(self, good: bool) -> None:
        """Without good leases nothing is handed out; what is under way goes on, and its epoch stops it if need be."""
        if self._pass is not None:
            self._pass.leases_changed(good)

    def _leases_lost(self, error: AmpdError) -> None:
        self._lost = error
        self.cancel()

    async def _held(self) -> Sequence[Location]:
        return self._locations

    async def _load_index(self, opened: Opened) -> None:
        async with step("MISSING_RANGES"):
            await patiently(lambda: self._index.load(self._env.db, opened.locations))

    # -- the loop of spec/data.md 4.2 -----------------------------------------------------------------------------

    async def _follow(self, opened: Opened) -> JobOutcome:
        start, final_only = opened.manifest.start_block, opened.manifest.finalized_blocks_only
        heads = Heads(opened.source, "finalized" if final_only else "latest")
        end: int | None = None
        while not self._stop.is_set():
            async with step("LATEST_BLOCK"):
                head = await heads.poll()
            if head is None:
                await self._wait(heads.waits_for)
                continue
            if end is None:
                end = await self._resolve_end(start, head)
            top = head.number if end is None else min(end, head.number)
            beside = heads.is_steady and not final_only and top == head.number
            units, repairs = await self._plan(opened, top, end, head if beside else None)
            if units:
                await failpoints.reach("planned")
                files = self.meter.totals.files
                if repairs:  # what is written again under its old epoch would have its old name
                    opened = await self._renew(opened)
                opened = await self._run_pass(opened, units, heads)
                if self.meter.totals.files == files:
                    await self._wait("head", None if self._fruitless else self._standstill.pause(units[0].span))
                else:
                    self._standstill.settle()
            elif end is not None and end <= head.number:
                return JobOutcome(Outcome.COMPLETED)
            else:
                await self._wait("head")
        return JobOutcome(Outcome.STOPPED)

    async def _resolve_end(self, start: int, head: Head) -> int | None:
        """The last block of the job; what depends on the head is resolved once and kept in Postgres."""
        asked, job_id = self.spec.descriptor.end_block, self.spec.job_id
        if not plan.is_relative(asked):
            return plan.resolve_end(asked, start, head.number)

        async def once() -> int | None:
            async with self._env.db.transaction() as conn:
                end = await ends.kept_end(conn, job_id)
                if end is None:
                    end = plan.resolve_end(asked, start, head.number)
                    assert end is not None
                    await ends.keep_end(conn, job_id, end)
                return end

        async with step("RESOLVE_END_BLOCK"):
            return await patiently(once)

    async def _wait(self, reason: str, secs: float | None = None) -> None:
        self.meter.waiting_for(reason)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self._env.poll_secs if secs is None else secs)

    async def _plan(self, opened: Opened, top: int, end: int | None, beside: Head | None) -> tuple[list[Unit], bool]:
        """What is missing up to ``top``, and whether some of it replaces files that are there.

        ``beside``: the head, if it may be another block of the height of our tip.
        """
        start = opened.manifest.start_block
        asked = (top, end, None if beside is None else beside.hash, self._index.version)
        if top < start or asked == self._nothing_at:
            return [], False
        wanted = Span(start, top)
        after = None if beside is None else plan.after(beside.number, beside.hash, opened.manifest.network)
        lacking = await self._index.lacking(wanted, after)
        left = sum(len(span) for span in merge(span for each in lacking.values() for span in each.spans))
        self.meter.planned(None if end is None else end - start + 1, len(wanted) - left)
        writers = self.spec.descriptor.max_writers
        size = self._env.unit_blocks or plan.unit_blocks(self._file_density, blocks=left, writers=writers)
        units = plan.plan({table: each.spans for table, each in lacking.items()}, unit_blocks=size)
        if not units:
            self._nothing_at = asked
        repairs = any(each.repairs for each in lacking.values())
        return list(plan.one_pass(units, density_known=self._file_density is not None, writers=writers)), repairs

    # -- one pass -------------------------------------------------------------------------------------------------

    async def _run_pass(self, opened: Opened, units: list[Unit], heads: Heads) -> Opened:
        """Carry ``units`` out; what comes back is what to go on with: new leases, if something was lost."""
        finalized = await heads.finalized() if sum(len(unit.span) for unit in units) > 1 else None
        orders = Orders(self.spec, self._env.options, opened, self._index, finalized)
        machine = JobState(
            units,
            Limits(
                max_partitions=self.spec.descriptor.max_writers,
                max_tasks=self._extractors.wanted_tasks(),
                memory_bytes=self._env.memory_bytes,
                flush_secs=self._env.flush_secs,
            ),
            bytes_per_block=self._arrow_density,
            now=time.monotonic(),
        )
        self.meter.follow(machine)
        totals = self.meter.totals
        files, nbytes, blocks = totals.files, totals.nbytes, totals.blocks
        self._pass = current = Pass(
            machine,
            self._extractors,
            orders.task,
            lambda number, unit: self._writers.open(orders.partition(number, unit)),
            on_extracted=self.meter.extracted,
            on_report=self._on_report,
        )
        current.leases_changed(self._leases.good)
        try:
            async with step("PARTITION_TASK"):
                error = await current.run()
                if error is not None:
                    raise error
        finally:
            self._pass = None
        self._arrow_density = machine.bytes_per_block
        if totals.blocks > blocks:
            self._file_density = (totals.nbytes - nbytes) / (totals.blocks - blocks)
        return await self._after(opened, replan=current.replan, committed=totals.files > files)

    async def _after(self, opened: Opened, *, replan: bool, committed: bool) -> Opened:
        """After a loss nothing is patched up: new leases, so that what was lost commits no more, and the index anew."""
        self._fruitless = 0 if committed or not replan else self._fruitless + 1
        if self._fruitless >= MAX_FRUITLESS_PASSES:
            raise JobFailed(
                f"{self._fruitless} passes in a row lost their writers and committed nothing; the log names the causes",
                step="PARTITION_TASK",
                retryable=True,
            )
        if not replan or self._stop.is_set():
            return opened
        if self._fruitless:
            await self._wait("writer", FRUITLESS_PAUSE_SECS * 2 ** (self._fruitless - 1))
        opened = await self._renew(opened)
        await self._load_index(opened)
        return opened

    async def _renew(self, opened: Opened) -> Opened:
        """Go on under a new epoch."""
        opened = replace(opened, locations=await setup.take_leases(self._env, self._leases, opened.revisions))
        self._locations = opened.locations
        self._sweeper.ask()
        return opened

    def _on_report(self, report: WriterReport) -> None:
        """Own commits go straight into the index."""
        self._index.note(report)
        self.meter.reported(report)
