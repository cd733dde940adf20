"""What a run of a job has done so far, and how fast it goes: the live row behind every progress bar."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ampd_ray.errors import AmpdError
from ampd_ray.materialize.setup import JobSpec
from ampd_ray.materialize.speed import MOST_SAMPLES, Sample, Sampler, Window
from ampd_ray.materialize.state import JobState
from ampd_ray.materialize.tally import Tally
from ampd_ray.materialize.types import ExtractSummary, JobTotals, Outcome, WriterReport
from ampd_ray.metadb import jobs, progress
from ampd_ray.metadb.connection import Connection, Database

logger = logging.getLogger(__name__)

REPORT_EVERY_SECS = 1.0


class Meter:
    """Counts what the passes report, and writes it to ``job_progress`` every second, to ``job_rate`` now and then.

    Files committed since the last row also end the job's count of failures in a row (``spec/metadata-db.md`` 5.8).
    """

    def __init__(self, spec: JobSpec, clock: Callable[[], float] = time.monotonic):
        self.totals = JobTotals()
        self.phase = "opening"
        self._spec = spec
        self._clock = clock
        self._machine: JobState | None = None
        self._waiting: str | None = None
        self._tally = Tally()
        self._window = Window()
        self._began = clock()
        self._sampler = Sampler(self._began)
        self._sampled_before: float | None = None  # seconds from the job's first sample to this run; None: not asked
        self._samples = 0  # of all of its runs
        self._over = False
        self._fetch_secs = 0.0
        self._decode_secs = 0.0
        self._files_recorded = 0

    def follow(self, machine: JobState) -> None:
        """A new pass begins; its machine knows what holds it back."""
        self._machine = machine
        self._waiting = None
        self.phase = "extracting"

    def waiting_for(self, reason: str | None) -> None:
        """Nothing to do until ``reason`` changes; None: it has changed, and the next thing is being prepared."""
        self._machine = None
        self._waiting = reason
        self.phase = "waiting" if reason else "opening"

    def ended(self, outcome: Outcome) -> None:
        """The run is over."""
        self._machine = None
        self._waiting = None
        self._over = True
        self._tally.ended()
        self.phase = outcome.value

    def planned(self, total: int | None, done: int, aside: int = 0) -> None:
        """A plan was made: ``done`` of ``total`` blocks are committed, ``aside`` are set aside; None: no last block.

        A lost writer takes appended blocks with it: the bar goes back, and the rate begins anew.
        """
        if done < self._tally.done:
            self._window.forget()
        self._tally.planned(total, done, aside)

    def set_aside(self, block: int) -> None:
        """The job does without ``block``."""
        self._tally.set_aside(block)

    def extracted(self, summary: ExtractSummary) -> None:
        """A task was extracted."""
        self.totals.requests += summary.requests
        self.totals.retries += summary.retries
        self.totals.rpc_bytes += summary.rpc_bytes
        self._tally.extracted(summary)
        self._fetch_secs = 0.8 * self._fetch_secs + summary.fetch_secs
        self._decode_secs = 0.8 * self._decode_secs + summary.decode_secs

    def reported(self, report: WriterReport) -> None:
        """A writer appended or committed."""
        self._tally.reported(report)
        ranges = {file.range for file in report.committed}
        self.totals.blocks += sum(len(range_.span) for range_ in ranges)
        for file in report.committed:
            self.totals.files += 1
            self.totals.nbytes += file.nbytes
            self.totals.rows[file.table] = self.totals.rows.get(file.table, 0) + file.rows

    async def report_forever(self, db: Database) -> None:
        """Write the row every second until cancelled."""
        while True:
            await self.report(db)
            await asyncio.sleep(REPORT_EVERY_SECS)

    async def report(self, db: Database) -> None:
        """Write the row, and a sample if it is time. Progress is a comfort: a failure is logged and changes nothing."""
        sample = self._sampler.look(self._clock(), self._tally.counts, self._limit())
        try:
            async with db.connection() as conn:
                await progress.report(conn, self._spec.job_id, self._spec.node_id, self._row())
                if (files := self.totals.files) > self._files_recorded:
                    await jobs.record_progress(conn, self._spec.job_id)
                    self._files_recorded = files
                await self._keep(conn, sample)
        except AmpdError as error:
            logger.info("progress was not written", extra={"job_id": self._spec.job_id, "error": error})

    async def _keep(self, conn: Connection, sample: Sample) -> None:
        """Keep the sample if it is due, and at the end of a run that did something since the last one."""
        if self._sampled_before is None:
            recorded_for, self._samples = await progress.recorded(conn, self._spec.job_id)
            self._sampled_before = max(0.0, recorded_for - (sample.at - self._began))
        last = self._over and any(sample.done) and self._samples < MOST_SAMPLES
        if last or self._sampler.due(sample, self._sampled_before):
            rate = progress.JobRate(sample.secs, *sample.done, limiting_factor=sample.limit)
            await progress.record_rate(conn, self._spec.job_id, self._spec.node_id, rate)
            self._sampler.took(sample)
            self._samples += 1

    def _row(self) -> progress.JobProgress:
        tally = self._tally
        rates = self._window.look(self._clock(), tally.counts)
        rows = tally.rows(self.totals)
        return progress.JobProgress(
            phase=self.phase,
            blocks_done=tally.done,
            blocks_total=tally.total,
            rows=sum(rows.values()),
            bytes=self.totals.nbytes,
            rpc_requests=self.totals.requests,
            retries=self.totals.retries,
            rate=rates.blocks,
            limiting_factor=self._limit(),
            eta_secs=tally.left / rates.blocks if tally.left and rates.blocks else None,
            rows_by_table=rows,
            rows_rate=rates.rows,
            requests_rate=rates.requests,
        )

    def _limit(self) -> str | None:
        """What the job waits for most: ``head``, ``rpc``, ``cpu`` (decoding) or ``writer``."""
        if self._waiting is not None or self._machine is None:
            return self._waiting
        starved = self._machine.starved
        if starved == "rpc" and self._decode_secs > self._fetch_secs:
            return "cpu"
        return None if starved == "idle" else starved
