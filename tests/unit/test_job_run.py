"""The task around one job: a stop that takes too long."""

from __future__ import annotations

import asyncio

import pytest

from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.node.job import JobRun


class Job:
    """Goes on until it is cancelled; ``obeys`` a stop at once."""

    def __init__(self, *, obeys: bool, answers: bool = True) -> None:
        self._obeys = obeys
        self._answers = answers
        self._stopped = asyncio.Event()
        self.started = asyncio.Event()

    async def run(self) -> JobOutcome:
        self.started.set()
        await self._stopped.wait()
        return JobOutcome(Outcome.STOPPED)

    async def stop(self, deadline_secs: float) -> None:
        if self._obeys:
            self._stopped.set()

    def cancel(self) -> None:
        if self._answers:
            self._stopped.set()


@pytest.mark.parametrize(
    ("job", "cut_short"),
    [(Job(obeys=True), False), (Job(obeys=False), True), (Job(obeys=False, answers=False), True)],
    ids=["obeys", "is cancelled", "is forced"],
)
async def test_a_job_that_does_not_stop_in_time_was_cut_short(job: Job, cut_short: bool) -> None:
    ended: asyncio.Future[JobOutcome] = asyncio.get_running_loop().create_future()
    run = JobRun(1, lambda: job, ended.set_result)
    await job.started.wait()
    run.stop(0.01, 0.01)
    assert await asyncio.wait_for(ended, 5.0) == JobOutcome(Outcome.STOPPED, cut_short=cut_short)
