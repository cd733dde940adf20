"""What a node asks of a job, and the local run of one job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, Handling, Unexpected
from ampd_ray.log import bind
from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb.jobs import JobRow

_log: Final = logging.getLogger(__name__)

CANCEL_GRACE_SECS: Final = 5.0  # between asking a job to end and ending it by force
CLOSE_GRACE_SECS: Final = 1.0  # the same when the process ends


class Job(Protocol):
    """One run of a job, from its leases to its last commit."""

    async def run(self) -> JobOutcome:
        """Work until the job's end, ``stop`` or ``cancel``. May raise; an ``AmpdError`` is a failure of its class."""

    async def stop(self, deadline_secs: float) -> None:
        """Hand out no more work, commit what can be finished within ``deadline_secs``, then let ``run`` return."""

    def cancel(self) -> None:
        """Let ``run`` return at once: open segments are discarded, leases released, nothing is written."""


class JobFactory(Protocol):
    """Makes the job for a row that is RUNNING and ours."""

    def __call__(self, row: JobRow, descriptor: JobDescriptor) -> Job:
        """A job that has done nothing yet."""


class JobRun:
    """The asyncio task around one job. Calls ``on_end`` exactly once, whatever the job does."""

    def __init__(self, job_id: int, make: Callable[[], Job], on_end: Callable[[JobOutcome], None]) -> None:
        self._job_id = job_id
        self._make = make
        self._on_end = on_end
        self._job: Job | None = None
        self._late = False
        self._ending: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._run(), name=f"job-{job_id}")

    def stop(self, deadline_secs: float, grace_secs: float = CANCEL_GRACE_SECS) -> None:
        """Ask for a graceful end; ``grace_secs`` after the deadline cancel the job, after as long again force it."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._stop(deadline_secs, grace_secs), name=f"job-{self._job_id}-stop")

    def drop(self) -> None:
        """End it without writing anything; force it after some seconds."""
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.create_task(self._drop(), name=f"job-{self._job_id}-drop")

    async def close(self) -> None:
        """End it, by force if need be, and wait for that, but not for ever."""
        self.drop()
        tasks = {task for task in (self._ending, self._task) if task is not None}
        await asyncio.wait({self._task}, timeout=CLOSE_GRACE_SECS)
        for task in tasks:
            task.cancel()
        _, alive = await asyncio.wait(tasks, timeout=CLOSE_GRACE_SECS)
        if alive:
            _log.error("a job does not end", extra={"job_id": self._job_id})

    async def _run(self) -> None:
        with bind(job_id=self._job_id):
            outcome = await self._outcome()
            self._on_end(replace(outcome, cut_short=True) if self._late else outcome)

    async def _outcome(self) -> JobOutcome:
        try:
            self._job = self._make()
            return await self._job.run()
        except asyncio.CancelledError:
            return JobOutcome(Outcome.STOPPED)
        except AmpdError as error:
            fenced = error.handling is Handling.FENCED
            return JobOutcome(Outcome.FENCED if fenced else Outcome.FAILED, error)
        except Exception as error:
            _log.exception("a job raised an unexpected exception")
            unexpected = Unexpected.of(error)
            unexpected.__cause__ = error
            return JobOutcome(Outcome.FAILED, unexpected)

    async def _stop(self, deadline_secs: float, grace_secs: float) -> None:
        try:
            if self._job is not None:
                async with asyncio.timeout(deadline_secs + grace_secs):
                    await self._job.stop(deadline_secs)
                    await asyncio.wait({self._task})
        except TimeoutError:
            _log.warning("a job did not stop in time and is cancelled", extra={"job_id": self._job_id})
            self._late = True
        except Exception:
            _log.exception("a job could not be stopped and is cancelled", extra={"job_id": self._job_id})
            self._late = True
        await self._drop(grace_secs)

    async def _drop(self, grace_secs: float = CANCEL_GRACE_SECS) -> None:
        if self._job is not None and not self._task.done():
            with contextlib.suppress(Exception):
                self._job.cancel()
            await asyncio.wait({self._task}, timeout=grace_secs)
        self._task.cancel()
