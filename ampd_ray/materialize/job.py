"""One job from its start to its end: plan what is missing, run a pass over it, look again.

The job keeps an index of the registered segments, fed by its own commits, and reads it anew from Postgres whenever
a pass was not carried out as planned. Following the head is the same loop as a backfill: the missing range is
then one block long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Literal, Protocol

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.chain.segments import Segment, missing
from ampd_ray.errors import AmpdError, Handling, JobFailed, ProviderError, Unexpected
from ampd_ray.materialize import plan, setup
from ampd_ray.materialize.meter import Meter
from ampd_ray.materialize.perform import Extractors, Pass, WriterHandle
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.setup import Environment, Head, JobSpec, Opened
from ampd_ray.materialize.state import JobState, Limits
from ampd_ray.materialize.types import JobOutcome, Outcome, Partition, RangeTask, WriterReport

logger = logging.getLogger(__name__)

# Passes in a row that end early without committing anything, before the job is given up for a while.
MAX_FRUITLESS_PASSES = 5


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
        self._stop_secs = 0.0
        self._running: asyncio.Task[JobOutcome] | None = None
        self._pass: Pass | None = None
        self._segments: dict[str, list[Segment]] = {}
        self._bytes_per_block: float | None = None
        self._fruitless = 0

    async def stop(self, deadline_secs: float) -> None:
        """Commit what can be committed within ``deadline_secs``, then end as STOPPED. Safe to call twice."""
        self._stop.set()
        self._stop_secs = deadline_secs
        if self._pass is not None:
            self._pass.stop(deadline_secs)

    def cancel(self) -> None:
        """End at once; what is not committed is dropped."""
        if self._running is not None:
            self._running.cancel()

    async def run(self) -> JobOutcome:
        """Run until the range is complete, the job is stopped, or it fails."""
        self._running = asyncio.create_task(self._run())
        reporting = asyncio.create_task(self.meter.report_forever(self._env.db))
        try:
            return await self._running
        except AmpdError as error:
            if error.handling is Handling.FENCED:
                return JobOutcome(Outcome.FENCED, error)
            return JobOutcome(Outcome.FAILED, error)
        except Exception as error:
            logger.exception("unexpected failure of job %d", self.spec.job_id)
            return JobOutcome(Outcome.FAILED, Unexpected.of(error))
        finally:
            self._running.cancel()
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting
            await self.meter.report(self._env.db)

    async def _run(self) -> JobOutcome:
        opened = await setup.open_job(self.spec, self._env)
        try:
            await self._load_segments(opened)
            return await self._follow(opened)
        finally:
            await opened.source.close()

    async def _load_segments(self, opened: Opened) -> None:
        async with setup.step("MISSING_RANGES"):
            self._segments = await setup.patiently(lambda: setup.load_segments(self._env, opened.locations))

    # -- the loop of spec/data.md 4.2 -----------------------------------------------------------------------------

    async def _follow(self, opened: Opened) -> JobOutcome:
        start = opened.manifest.start_block
        end: int | None = None
        resolved = False
        while not self._stop.is_set():
            head = await self._head(opened)
            if head is not None and not resolved:
                end = plan.resolve_end(self.spec.descriptor.end_block, start, head.number)
                resolved = True
            top = None if head is None else (head.number if end is None else min(end, head.number))
            if head is None or top is None or top < start:
                await self._wait("head")
                continue
            units = self._plan(opened, Span(start, top), None if end is None else end - start + 1)
            if units:
                await self._run_pass(opened, units, Span(start, top))
            elif end is not None and end <= head.number:
                self.meter.phase = "completed"
                return JobOutcome(Outcome.COMPLETED)
            else:
                await self._wait("head")
        return JobOutcome(Outcome.STOPPED)

    async def _head(self, opened: Opened) -> Head | None:
        """The head to follow; None while the chain is empty or has no final block yet."""
        tag: Literal["latest", "finalized"] = "finalized" if opened.manifest.finalized_blocks_only else "latest"
        async with setup.step("LATEST_BLOCK"):
            return await setup.patiently(lambda: opened.source.head(tag))

    async def _wait(self, reason: str) -> None:
        self.meter.waiting_for(reason)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self._env.poll_secs)

    def _plan(self, opened: Opened, wanted: Span, total: int | None) -> list[Unit]:
        lacking = {table: missing(segments, wanted) for table, segments in self._segments.items()}
        left = sum(len(span) for span in merge([span for spans in lacking.values() for span in spans]))
        self.meter.planned(total if total is not None else len(wanted), len(wanted) - left)
        return plan.plan(lacking, unit_blocks=plan.unit_blocks(self._file_bytes_per_block()))

    def _file_bytes_per_block(self) -> float | None:
        """What a block takes on disk, from this run's own files."""
        totals = self.meter.totals
        return totals.nbytes / totals.blocks if totals.blocks else None

    # -- one pass -------------------------------------------------------------------------------------------------

    async def _run_pass(self, opened: Opened, units: list[Unit], wanted: Span) -> None:
        finalized = await self._finalized(opened, units)
        machine = JobState(
            units,
            Limits(
                max_partitions=max(1, self.spec.descriptor.max_writers),
                max_tasks=self._extractors.wanted_tasks(),
                memory_bytes=self._env.memory_bytes,
                flush_secs=self._env.flush_secs,
            ),
            bytes_per_block=self._bytes_per_block,
            now=time.monotonic(),
        )
        self.meter.follow(machine)
        committed_before = self.meter.totals.files
        self._pass = Pass(
            machine,
            self._extractors,
            lambda number, unit, span: self._task(opened, number, unit, span),
            lambda number, unit: self._writers.open(self._partition(opened, number, unit, finalized)),
            on_extracted=self.meter.extracted,
            on_report=self._on_report,
        )
        if self._stop.is_set():
            self._pass.stop(self._stop_secs)
        async with setup.step("PARTITION_TASK"):
            error = await self._pass.run()
            self._bytes_per_block = machine.bytes_per_block
            if error is not None:
                raise error
            await self._after(opened, replan=self._pass.replan, committed=self.meter.totals.files > committed_before)

    async def _after(self, opened: Opened, *, replan: bool, committed: bool) -> None:
        """A pass that was not carried out as planned leaves the index in doubt; too many in a row end the job."""
        self._fruitless = 0 if committed or not replan else self._fruitless + 1
        if self._fruitless >= MAX_FRUITLESS_PASSES:
            raise JobFailed(
                f"{self._fruitless} passes in a row lost their writers and committed nothing; the log names the causes",
                step="PARTITION_TASK",
                retryable=True,
            )
        if replan:
            await self._load_segments(opened)

    async def _finalized(self, opened: Opened, units: list[Unit]) -> int | None:
        """The highest final block, if a file could straddle it; None where the node does not tell."""
        if sum(len(unit.span) for unit in units) == 1:
            return None
        try:
            head = await opened.source.head("finalized")
        except ProviderError as error:
            logger.info("no finalized block: %s", error)
            return None
        return None if head is None else head.number

    def _task(self, opened: Opened, number: int, unit: Unit, span: Span) -> RangeTask:
        return RangeTask(
            job_id=self.spec.job_id,
            partition=number,
            span=span,
            tables=unit.tables,
            provider=opened.provider,
            network=opened.manifest.network,
            verify=self.spec.descriptor.verify,
        )

    def _partition(self, opened: Opened, number: int, unit: Unit, finalized: int | None) -> Partition:
        locations = tuple(location for location in opened.locations if location.table in unit.tables)
        return Partition(
            job_id=self.spec.job_id,
            node_id=self.spec.node_id,
            incarnation=self.spec.incarnation,
            number=number,
            dataset=self.spec.descriptor.dataset,
            network=opened.manifest.network,
            spans=(unit.span,),
            locations=locations,
            known={
                location.location_id: _overlapped(self._segments[location.table], unit.span) for location in locations
            },
            newest_ns=max((s.created_ns for found in self._segments.values() for s in found), default=0),
            options=self._env.options,
            finalized=finalized,
            verified="roots" if self.spec.descriptor.verify else "none",
        )

    def _on_report(self, report: WriterReport) -> None:
        """Own commits go straight into the index."""
        for file in report.committed:
            self._segments[file.table].append(Segment(file.file_id, file.range, file.created_ns))
        self.meter.reported(report)


def _overlapped(segments: list[Segment], span: Span) -> frozenset[int]:
    """The registered files that writing ``span`` may overlap: those that a repair is about to replace."""
    return frozenset(s.file_id for s in segments if s.range.start <= span.end and span.start <= s.range.end)
