"""Jobs that do nothing but what a test tells them."""

from __future__ import annotations

import asyncio

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError
from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb.jobs import JobRow


class FakeJob:
    """Runs until a test ends it, or it is asked to end. A ``stubborn`` one does not listen."""

    def __init__(self, row: JobRow, descriptor: JobDescriptor, *, stubborn: bool = False) -> None:
        self.row = row
        self.descriptor = descriptor
        self.stubborn = stubborn
        self.started = asyncio.Event()
        self.stopped_within: float | None = None
        self.cancelled = False
        self._end: asyncio.Future[JobOutcome] = asyncio.get_running_loop().create_future()

    @property
    def running(self) -> bool:
        return self.started.is_set() and not self._end.done()

    def complete(self) -> None:
        self._finish(JobOutcome(Outcome.COMPLETED))

    def fail(self, error: AmpdError) -> None:
        self._finish(JobOutcome(Outcome.FAILED, error))

    def crash(self, error: Exception) -> None:
        self._end.set_exception(error)

    async def run(self) -> JobOutcome:
        self.started.set()
        return await self._end

    async def stop(self, deadline_secs: float) -> None:
        self.stopped_within = deadline_secs
        if not self.stubborn:
            self._finish(JobOutcome(Outcome.STOPPED))

    def cancel(self) -> None:
        self.cancelled = True
        if not self.stubborn:
            self._finish(JobOutcome(Outcome.STOPPED))

    def _finish(self, outcome: JobOutcome) -> None:
        if not self._end.done():
            self._end.set_result(outcome)


class FakeJobs:
    """A job factory that remembers what it made."""

    def __init__(self) -> None:
        self.made: list[FakeJob] = []
        self.refuse: Exception | None = None
        self.stubborn = False

    def __call__(self, row: JobRow, descriptor: JobDescriptor) -> FakeJob:
        if self.refuse is not None:
            raise self.refuse
        job = FakeJob(row, descriptor, stubborn=self.stubborn)
        self.made.append(job)
        return job

    def running(self) -> list[FakeJob]:
        return [job for job in self.made if job.running]
