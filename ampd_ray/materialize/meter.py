"""What a run of a job has done so far, and how fast it goes: the live row behind every progress bar."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from ampd_ray.errors import AmpdError
from ampd_ray.materialize.setup import JobSpec
from ampd_ray.materialize.state import JobState
from ampd_ray.materialize.types import ExtractSummary, JobTotals, Outcome, WriterReport
from ampd_ray.metadb import jobs, progress
from ampd_ray.metadb.connection import Database

logger = logging.getLogger(__name__)

REPORT_EVERY_SECS = 1.0
# The rate is that of the last few seconds, so that it follows a change and does not jump with every segment.
RATE_WINDOW_SECS = 10.0


class Meter:
    """Counts what the passes report, and writes it to ``job_progress`` every second.

    Files committed since the last row also end the job's count of failures in a row (``spec/metadata-db.md`` 5.8).
    """

    def __init__(self, spec: JobSpec, clock: Callable[[], float] = time.monotonic):
        self.totals = JobTotals()
        self.phase = "opening"
        self._spec = spec
        self._clock = clock
        self._machine: JobState | None = None
        self._waiting: str | None = None
        self._total: int | None = None
        self._done_before = 0
        self._appended = 0
        self._fetch_secs = 0.0
        self._decode_secs = 0.0
        self._history: deque[tuple[float, int]] = deque()
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
        self.phase = outcome.value

    def planned(self, total: int | None, done: int) -> None:
        """A plan was made: ``done`` of ``total`` blocks are committed; None if there is no last block."""
        self._total = total
        self._done_before = done
        self._appended = 0

    def extracted(self, summary: ExtractSummary) -> None:
        """A task was extracted."""
        self.totals.requests += summary.requests
        self.totals.retries += summary.retries
        self.totals.rpc_bytes += summary.rpc_bytes
        self._fetch_secs = 0.8 * self._fetch_secs + summary.fetch_secs
        self._decode_secs = 0.8 * self._decode_secs + summary.decode_secs

    def reported(self, report: WriterReport) -> None:
        """A writer appended or committed."""
        self._appended += sum(len(span) for span in report.appended)
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
        """Write the row. Progress is a comfort: a failure is logged and changes nothing."""
        try:
            async with db.connection() as conn:
                await progress.report(conn, self._spec.job_id, self._spec.node_id, self._row())
                if (files := self.totals.files) > self._files_recorded:
                    await jobs.record_progress(conn, self._spec.job_id)
                    self._files_recorded = files
        except AmpdError as error:
            logger.info("progress was not written", extra={"job_id": self._spec.job_id, "error": error})

    def _row(self) -> progress.JobProgress:
        done = self._done_before + self._appended
        rate = self._rate(done)
        left = None if self._total is None else max(0, self._total - done)
        return progress.JobProgress(
            phase=self.phase,
            blocks_done=done,
            blocks_total=self._total,
            rows=sum(self.totals.rows.values()),
            bytes=self.totals.nbytes,
            rpc_requests=self.totals.requests,
            retries=self.totals.retries,
            rate=rate,
            limiting_factor=self._limit(),
            eta_secs=left / rate if left and rate else None,
            rows_by_table=dict(self.totals.rows),
        )

    def _rate(self, done: int) -> float:
        """Blocks a second over the window."""
        now = self._clock()
        if self._history and done < self._history[-1][1]:
            self._history.clear()
        self._history.append((now, done))
        while now - self._history[0][0] > RATE_WINDOW_SECS:
            self._history.popleft()
        then, before = self._history[0]
        return (done - before) / (now - then) if now > then else 0.0

    def _limit(self) -> str | None:
        """What the job waits for most: ``head``, ``rpc``, ``cpu`` (decoding) or ``writer``."""
        if self._waiting is not None or self._machine is None:
            return self._waiting
        starved = self._machine.starved
        if starved == "rpc" and self._decode_secs > self._fetch_secs:
            return "cpu"
        return None if starved == "idle" else starved
