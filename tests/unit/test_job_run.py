"""The task around one job: a stop that takes too long."""

from __future__ import annotations

import asyncio

import pytest

from ampd_ray.errors import StoreFull
from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.node.job import JobRun


class Job:
    """Goes on until it is cancelled; ``obeys`` a stop at once; ``error`` comes of a stop, ``failure`` is its end."""

    def __init__(
        self,
        *,
        obeys: bool,
        answers: bool = True,
        error: Exception | None = None,
        failure: Exception | None = None,
    ) -> None:
        self._obeys = obeys
        self._answers = answers
        self._error = error
        self._failure = failure
        self._stopped = asyncio.Event()
        self.started = asyncio.Event()

    async def run(self) -> JobOutcome:
        self.started.set()
        await self._stopped.wait()
        if self._failure is not None:
            raise self._failure
        return JobOutcome(Outcome.STOPPED)

    async def stop(self, deadline_secs: float) -> None:
        if self._error is not None:
            raise self._error
        if self._obeys:
            self._stopped.set()

    def cancel(self) -> None:
        if self._answers:
            self._stopped.set()


@pytest.mark.parametrize(
    ("job", "cut_short"),
    [
        (Job(obeys=True), False),
        (Job(obeys=False), True),
        (Job(obeys=False, answers=False), True),
        (Job(obeys=False, error=ValueError("no")), True),
    ],
    ids=["obeys", "is cancelled", "is forced", "cannot be stopped"],
)
async def test_a_job_that_does_not_stop_in_time_was_cut_short(job: Job, cut_short: bool) -> None:
    ended: asyncio.Future[JobOutcome] = asyncio.get_running_loop().create_future()
    run = JobRun(1, lambda: job, ended.set_result)
    await job.started.wait()
    run.stop(0.01, 0.01)
    assert await asyncio.wait_for(ended, 5.0) == JobOutcome(Outcome.STOPPED, cut_short=cut_short)


@pytest.mark.parametrize("failure", [StoreFull("full"), ValueError("no")])
async def test_so_was_one_that_fails_when_it_is_cancelled(failure: Exception) -> None:
    ended: asyncio.Future[JobOutcome] = asyncio.get_running_loop().create_future()
    job = Job(obeys=False, failure=failure)
    run = JobRun(1, lambda: job, ended.set_result)
    await job.started.wait()
    run.stop(0.01, 0.01)
    outcome = await asyncio.wait_for(ended, 5.0)
    assert (outcome.outcome, outcome.cut_short) == (Outcome.FAILED, True)
