"""What can be asked of a job, as coroutines for the session's loop: ``Job`` blocks for them, others await them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from ampd_ray.client.displays.rows import Rows
from ampd_ray.client.listed import of_event, of_failure, of_hole
from ampd_ray.client.progress import Progress, Rates, rates_of
from ampd_ray.client.session_calls import SessionCalls
from ampd_ray.client.snapshot import Committed, Failure, failure_of, failures_of, of_this_run, progress_of, tells
from ampd_ray.client.summary import Summary, committed, holes, set_aside, summarise
from ampd_ray.client.watching import Watch
from ampd_ray.client.work import Work, descriptor_of, name_of, reference, work_of
from ampd_ray.controller import service
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, DatabaseUnavailable, InvalidDescriptor, UnsupportedJobKind
from ampd_ray.metadb import jobs, progress, quarantine
from ampd_ray.metadb.jobs import JobEvent, JobRow
from ampd_ray.metadb.progress import ReportedProgress
from ampd_ray.metadb.quarantine import Quarantined

T = TypeVar("T")
POLL_SECS = 0.2


class JobCalls:
    """The calls of one job. All raise ``NotFound`` if it is not there (any more), and what the database says."""

    def __init__(self, session: SessionCalls, job_id: int):
        self.id = job_id
        self._session = session
        self._db = session.db

    async def row(self) -> JobRow:
        """Its row now."""
        return await self._session.job_row(self.id)

    async def descriptor(self) -> JobDescriptor:
        """What it was asked to do."""
        return descriptor_of(await self.row())

    async def work(self) -> Work:
        """What it extracts."""
        return await self._work(await self.row(), await self._reported())

    async def progress(self) -> Progress:
        """How far it is."""
        row = await self.row()
        fresh = of_this_run(row, await self._reported())
        work = await self._work_if_known(row, fresh)
        told = None if work is None or tells(row, fresh) else await self._committed(work)
        now = progress_of(row, fresh, told, await self._aside(row, work))
        return replace(now, seconds=_seconds(row), began=_began(row))

    async def rates(self) -> Rates:
        """How fast it was over time."""
        await self.row()
        async with self._db.connection() as conn:
            return rates_of(self.id, await progress.history(conn, self.id))

    async def events(self) -> list[JobEvent]:
        """Its history, oldest first."""
        await self.row()
        async with self._db.connection() as conn:
            return Rows(await jobs.events(conn, self.id), of_event)

    async def failures(self) -> list[Failure]:
        """Its failed runs, oldest first."""
        return Rows(failures_of(await self.events()), of_failure)

    async def holes(self) -> list[Quarantined]:
        """What it does without."""
        group = quarantine.group_of(await self.descriptor())
        async with self._db.connection() as conn:
            return Rows(await quarantine.listed(conn, group), of_hole)

    async def stop(self) -> None:
        """Ask it to stop."""
        await jobs.request_stop(self._db, self.id)

    async def retry(self, worker: str | None, quarantined: bool) -> int:
        """Run it once more."""
        return await service.retry(self._db, self.id, worker, quarantined=quarantined)

    async def remove(self) -> None:
        """Delete it."""
        await jobs.delete(self._db, self.id)

    async def summary(self) -> Summary:
        """What is committed of its range; of a job that is not ours, nothing."""
        row = await self.row()
        fresh = of_this_run(row, await self._reported())
        seconds = _seconds(row)
        retries = 0 if fresh is None else fresh.progress.retries
        try:
            work = await self._work(row, fresh)
        except (InvalidDescriptor, UnsupportedJobKind):
            return Summary(name_of(row), "", 0, -1, 0, {}, 0, 0, retries, seconds=seconds)
        return await summarise(self._db, self._session.data, work, retries, _seconds(row))

    async def result(self, row: JobRow) -> Summary:
        """The summary of a job that has ended so; raises ``JobFailed`` if it failed."""
        failure = failure_of(row)
        if failure is not None:
            raise failure
        return await self.summary()

    async def ended(self, timeout_secs: float | None = None) -> JobRow:
        """Its row, once it has ended; ``TimeoutError``."""
        watch = self._watch(self.row, lambda row: row.status.terminal, POLL_SECS)
        while (row := await watch.next(timeout_secs)) is not None:
            last = row
        return last

    def watch(self, every_secs: float) -> Watch[Progress]:
        """Its progress now and again, the last when it has ended."""
        return self._watch(self.progress, lambda now: now.status.terminal, every_secs)

    def _watch(self, look: Callable[[], Awaitable[T]], over: Callable[[T], bool], every_secs: float) -> Watch[T]:
        return Watch(f"job {self.id}", look, over, check=self._session.check, every_secs=every_secs)

    async def _reported(self) -> ReportedProgress | None:
        async with self._db.connection() as conn:
            return await progress.read(conn, self.id)

    async def _work(self, row: JobRow, reported: ReportedProgress | None) -> Work:
        descriptor = descriptor_of(row)
        fresh = of_this_run(row, reported)
        settled = None if fresh is None else fresh.progress.blocks_total
        return work_of(descriptor, await self._session.manifest(reference(descriptor)), settled)

    async def _work_if_known(self, row: JobRow, fresh: ReportedProgress | None) -> Work | None:
        """None for a job that is not ours, or whose manifest is not to be had from here: it has a progress as well."""
        try:
            return await self._work(row, fresh)
        except AmpdError as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            return None

    async def _committed(self, work: Work) -> Committed:
        span = work.reach
        lacking = holes(span, await committed(self._db, work.dataset, span, work.tables), work.tables)
        return Committed(len(span) - sum(map(len, lacking)), None if work.end is None else len(span))

    async def _aside(self, row: JobRow, work: Work | None) -> int:
        """How many blocks are set aside: of its range, if that is known."""
        if not row.holes or work is None:
            return row.holes
        return sum(map(len, await set_aside(self._db, work.dataset, work.reach)))


def _seconds(row: JobRow) -> float:
    """How long its last run has taken."""
    end = row.updated_at if row.status.terminal else datetime.now(UTC)
    return max(0.0, (end - _began(row)).total_seconds())


def _began(row: JobRow) -> datetime:
    """When its last run was scheduled."""
    return row.scheduled_at or row.created_at
