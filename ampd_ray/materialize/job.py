"""One job from its start to its end: plan what is missing, run a pass over it, look again.

The job keeps an index of the registered segments, fed by its own commits, and reads it anew from Postgres, under a
new epoch, whenever a pass was not carried out as planned. Following the head is the same loop as a backfill: the
missing range is then one block long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from ampd_ray import failpoints
from ampd_ray.errors import AmpdError, Handling, Unexpected
from ampd_ray.materialize import plan, setup
from ampd_ray.materialize.heads import Head, Heads
from ampd_ray.materialize.leases import Claimant, JobLeases
from ampd_ray.materialize.meter import Meter
from ampd_ray.materialize.passes import Passes, Writers
from ampd_ray.materialize.patience import Standstill, patiently, step
from ampd_ray.materialize.perform import Extractors
from ampd_ray.materialize.setup import Environment, JobSpec, Opened
from ampd_ray.materialize.sweep import Broom, Sweeper
from ampd_ray.materialize.types import JobOutcome, Location, Outcome
from ampd_ray.metadb import ends

logger = logging.getLogger(__name__)

SWEEP_WITHIN_SECS = 5.0  # a job that is complete waits so long for the sweep that it began with


class MaterializeJob:
    """A run of one job. ``run`` may be cancelled: nothing but uncommitted work is lost."""

    def __init__(self, spec: JobSpec, env: Environment, extractors: Extractors, writers: Writers):
        self.spec = spec
        self.meter = Meter(spec)
        self._env = env
        self._running: asyncio.Task[JobOutcome] | None = None
        self._lost: AmpdError | None = None
        self._passes = Passes(spec, env, self.meter, (extractors, writers), self._renew)
        self._leases = JobLeases(
            Claimant(spec.job_id, spec.node_id, spec.incarnation, timedelta(seconds=env.lease_ttl_secs)),
            env.db,
            env.keeper,
            on_change=self._passes.leases_changed,
            on_lost=self._leases_lost,
            on_wait=self.meter.waiting_for,
        )
        self._locations: tuple[Location, ...] = ()
        broom = Broom(env.db, env.data, env.options.collect_after_secs is not None, self._passes.index.forget)
        self._sweeper = Sweeper(broom, self._held, env.sweep_every_secs)
        self._standstill = Standstill(env.poll_secs)

    async def stop(self, deadline_secs: float) -> None:
        """Commit what can be committed within ``deadline_secs``, then end as STOPPED. Safe to call twice."""
        if not self._passes.stop(deadline_secs):
            self.cancel()  # nothing is under way, and what it waits for may take long

    def cancel(self) -> None:
        """End at once, with ``CancelledError`` out of ``run``; what is not committed is dropped."""
        if self._running is not None:
            self._running.cancel()

    async def run(self) -> JobOutcome:
        """Run until the range is complete, the job is stopped, or it fails."""
        self._running = asyncio.create_task(self._run())
        reporting = asyncio.create_task(self.meter.report_forever(self._env.db))
        try:
            outcome = replace(await self._outcome(self._running), cut_short=self._passes.cut_short)
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
            if running.cancelled() and self._passes.stopping.is_set():
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
            await self._passes.load_index(opened)
            outcome = await self._follow(opened)
            if outcome.outcome is Outcome.COMPLETED:
                await self._sweeper.finish(SWEEP_WITHIN_SECS)
            return outcome
        finally:
            sweeping.cancel()
            await asyncio.wait({sweeping})

    # -- the leases of spec/commit.md 3 ---------------------------------------------------------------------------

    def _leases_lost(self, error: AmpdError) -> None:
        self._lost = error
        self.cancel()

    async def _held(self) -> Sequence[Location]:
        return self._locations

    async def _renew(self, opened: Opened) -> Opened:
        """Go on under a new epoch."""
        opened = replace(opened, locations=await setup.take_leases(self._env, self._leases, opened.revisions))
        self._locations = opened.locations
        self._sweeper.ask()
        return opened

    # -- the loop of spec/data.md 4.2 -----------------------------------------------------------------------------

    async def _follow(self, opened: Opened) -> JobOutcome:
        start, final_only = opened.manifest.start_block, opened.manifest.finalized_blocks_only
        heads = Heads(opened.source, "finalized" if final_only else "latest")
        passes = self._passes
        end: int | None = None
        while not passes.stopping.is_set():
            async with step("LATEST_BLOCK"):
                head = await heads.poll()
            if head is None:
                await passes.wait(heads.waits_for)
                continue
            if end is None:
                end = await self._resolve_end(start, head)
            top = head.number if end is None else min(end, head.number)
            beside = heads.is_steady and not final_only and top == head.number
            units, repairs = await passes.plan(opened, top, end, head if beside else None)
            if units:
                await failpoints.reach("planned")
                files = self.meter.totals.files
                if repairs:  # what is written again under its old epoch would have its old name
                    opened = await self._renew(opened)
                opened = await passes.run(opened, units, heads)
                if self.meter.totals.files == files:
                    await passes.wait("head", None if passes.fruitless else self._standstill.pause(units[0].span))
                else:
                    self._standstill.settle()
            elif end is not None and end <= head.number:
                await passes.check_hope(opened)
                return JobOutcome(Outcome.COMPLETED)
            else:
                await passes.wait("head")
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
