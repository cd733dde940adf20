"""Deploys jobs, and tries failed ones again (``spec/metadata-db.md`` 7)."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ampd_ray.config import Settings
from ampd_ray.controller.datasets import check_deployable
from ampd_ray.controller.scheduler import Candidate, choose_worker
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, NotFound, SchedulerError
from ampd_ray.metadb import jobs, workers
from ampd_ray.metadb.connection import Connection, Database, bounded
from ampd_ray.metadb.retries import DueRetry
from ampd_ray.metadb.route import CONNECT_TIMEOUT
from ampd_ray.metadb.statuses import SCHEDULED_MAX

_log: Final = logging.getLogger(__name__)
_RANDOM: Final = random.Random()  # noqa: S311 - spreads load, protects nothing

TICK: Final = timedelta(seconds=1)
JITTER: Final = 0.2
LEADER: Final = "ampd_ray:controller"  # the leader's lock; no Node ID can contain a colon


async def deploy(db: Database, descriptor: JobDescriptor, selector: str | None = None) -> int:
    """Have the worker that ``selector`` allows do what ``descriptor`` says; the job's id (7.1, 7.3).

    Raises :class:`SchedulerError`, :class:`WorkerNotAvailable` or :class:`InvalidName` where there is no worker,
    :class:`JobConflict` where the job is at hand with other parameters, and what :func:`check_deployable` raises.
    """
    async with db.connection() as conn:
        await check_deployable(conn, descriptor)
        node_id = choose_worker(await _candidates(conn), selector, _RANDOM)
    job_id = await jobs.schedule(db, descriptor, node_id)
    _log.info("job scheduled", extra={"job_id": job_id, "node_id": node_id, "dataset": descriptor.dataset})
    return job_id


async def retry(db: Database, job_id: int, selector: str | None = None, *, quarantined: bool = False) -> int:
    """Have a job that is at an end run once more; without a ``selector`` where it ran last, if that worker is alive.

    With ``quarantined`` the blocks that were set aside are asked for again; how many. Raises :class:`NotFound` and what
    :func:`deploy` raises.
    """
    async with db.connection() as conn:
        row, candidates = await jobs.get(conn, job_id), await _candidates(conn)
    if row is None:
        raise NotFound(f"there is no job {job_id}; see `ampd jobs list` or amp.jobs()", job_id=job_id)
    node_id = (
        _where_again(candidates, row.node_id) if selector is None else choose_worker(candidates, selector, _RANDOM)
    )
    cleared = await jobs.retry(db, job_id, node_id, quarantined=quarantined)
    _log.info("job scheduled again", extra={"job_id": job_id, "node_id": node_id, "quarantined": cleared})
    return cleared


def _where_again(candidates: list[Candidate], node_id: str) -> str:
    """The same node if it is alive, otherwise another (7.4). Raises SchedulerError where there is none."""
    same = any(candidate.node_id == node_id and candidate.usable for candidate in candidates)
    return node_id if same else choose_worker(candidates, None, _RANDOM)


async def _candidates(conn: Connection) -> list[Candidate]:
    return [Candidate(w.node_id, w.alive, w.active_jobs, w.draining) for w in await workers.list_workers(conn)]


@dataclass(slots=True)
class RetryCounters:
    """What a retry loop counts."""

    ticks: int = 0  # as leader
    failed_ticks: int = 0
    retried: int = 0
    failed_retries: int = 0  # of single jobs
    elections: int = 0


class RetryLoop:
    """Schedules jobs in ERROR again when their time has come. Any number may run; one of them leads."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.counters = RetryCounters()
        self._db = db
        self._max_attempts = settings.ampd_ray.retry_max_attempts
        self._session: Connection | None = None
        self._leads = False

    async def run(self) -> None:
        """Tick for ever; ends by cancellation only."""
        try:
            while True:
                try:
                    await self.tick()
                except AmpdError as error:
                    self.counters.failed_ticks += 1
                    _log.warning("no retries for now", extra={"error": error})
                except Exception:
                    self.counters.failed_ticks += 1
                    _log.exception("no retries for now")
                await asyncio.sleep(TICK.total_seconds() * _RANDOM.uniform(1 - JITTER, 1 + JITTER))
        finally:
            await self.close()

    async def tick(self) -> None:
        """If this loop leads: schedule each job that is due, in a transaction of its own."""
        if not await self._lead():
            return
        async with self._db.connection() as conn:
            due = await jobs.retry_due(conn)
        for job in due:
            try:
                await self._retry(job)
            except AmpdError as error:
                self.counters.failed_retries += 1
                _log.warning("a job could not be scheduled again", extra={"job_id": job.job_id, "error": error})
            except Exception:
                self.counters.failed_retries += 1
                _log.exception("a job could not be scheduled again", extra={"job_id": job.job_id})
        self.counters.ticks += 1

    async def close(self) -> None:
        """Give the lead to another loop."""
        self._leads = False
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _lead(self) -> bool:
        """Whether this loop holds the leader's lock; asking is also how a lost session is noticed."""
        if self._session is None or self._session.closed:
            await self.close()
            self._session = await self._db.connect_session()
        with self._db.translated():
            leads = await bounded(self._session, workers.try_lock(self._session, LEADER), CONNECT_TIMEOUT)
        if leads and not self._leads:
            self.counters.elections += 1
            _log.info("this process schedules retries")
        self._leads = leads
        return leads

    async def _retry(self, job: DueRetry) -> None:
        async with self._db.connection() as conn:
            scheduled = await jobs.scheduled_count(conn, job.job_id)
            candidates = await _candidates(conn)
        if job.failures >= self._max_attempts or scheduled >= SCHEDULED_MAX:
            return
        try:
            node_id = _where_again(candidates, job.node_id)
        except SchedulerError:
            return  # nobody is there; the job stays due
        if await jobs.reschedule(self._db, job.job_id, node_id):
            self.counters.retried += 1
            _log.info("job scheduled again", extra={"job_id": job.job_id, "node_id": node_id, "failures": job.failures})
