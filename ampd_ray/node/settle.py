"""Writes what a job has come to: its transitions, and for a failure the error JSON and the count (5.2, 5.6, 5.8)."""

from __future__ import annotations

import logging
import random
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from ampd_ray.errors import AmpdError, DatabaseUnavailable, Unexpected
from ampd_ray.metadb import jobs, workers
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.metadb.takeover import Claim, Failure, Move
from ampd_ray.node.events import Settle
from ampd_ray.node.job_errors import Attempt, error_class, error_code, error_json, final_status

_log: Final = logging.getLogger(__name__)

_FAILURES: Final = frozenset({JobStatus.ERROR, JobStatus.FATAL})


class Settler:
    """The transitions of one node's jobs, by the process that runs it. ``retry_max``: longest pause before a retry.

    Whoever has lost the node to another process writes nothing (``spec/metadata-db.md`` 4): the job may be at work
    there, or have been asked for anew.
    """

    def __init__(
        self, db: Database, node_id: str, incarnation: UUID, *, max_attempts: int, retry_max: timedelta
    ) -> None:
        self._db = db
        self._node_id = node_id
        self._incarnation = incarnation
        self._max_attempts = max_attempts
        self._retry_max = retry_max

    async def write(self, order: Settle) -> bool:
        """Carry out ``order``; False if the row was not where it should be, so that the rest was left.

        Raises :class:`DatabaseUnavailable` when the outcome is not known: the row tells; and :class:`Fenced`.
        """
        for status in order.statuses:
            if status in _FAILURES:
                written = await self._fail(order.job_id, order.error or Unexpected("the job failed without an error"))
            else:
                async with self._db.transaction() as conn:
                    written = await self._move(conn, order.job_id, status)
            if not written:
                return False
            _log.info("job is %s", status)
        if order.error is not None and not _FAILURES & set(order.statuses):
            _log.warning("the stopped job had failed", extra={"error": order.error})
        return True

    async def failed_claim(self, job_id: int, error: AmpdError) -> Claim:
        """What to write for a job of another node that ends in ``error`` as it is taken over."""
        attempt = await self._attempt(job_id)
        status = final_status(error, attempt, self._max_attempts)
        return Claim((Move(status, error_json(error, attempt)),), self._failure(error))

    async def _fail(self, job_id: int, error: AmpdError) -> bool:
        """ERROR or FATAL with the error's JSON, counted in the same transaction: so a repetition counts once."""
        attempt = await self._attempt(job_id)
        status = final_status(error, attempt, self._max_attempts)
        detail = error_json(error, attempt)
        async with self._db.transaction() as conn:
            if not await self._move(conn, job_id, status, detail):
                return False
            await jobs.record_failure(conn, job_id, **asdict(self._failure(error)))
        _log.error("the job failed", extra={"status": status, **detail})
        return True

    async def _move(
        self, conn: Connection, job_id: int, status: JobStatus, detail: dict[str, Any] | None = None
    ) -> bool:
        """First the row is locked, then the lease is looked at: nobody can have had the job in between."""
        moved = await jobs.transition(conn, job_id, status, self._node_id, detail)
        await workers.check_incarnation(conn, self._node_id, self._incarnation)
        return moved

    def _failure(self, error: AmpdError) -> Failure:
        spread = random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, protects nothing
        return Failure(error_code(error), error_class(error), spread, self._retry_max)

    async def _attempt(self, job_id: int) -> Attempt:
        try:
            async with self._db.connection() as conn:
                row = await jobs.get(conn, job_id)
                failures = await jobs.failures(conn, job_id) + 1
                index = await jobs.scheduled_count(conn, job_id)
        except DatabaseUnavailable:
            raise
        except AmpdError as problem:
            _log.warning("nothing could be found out about a failed run", extra={"error": problem})
            return Attempt()
        given: dict[str, Any] = row.descriptor if row is not None and isinstance(row.descriptor, dict) else {}
        space, name, manifest = (given.get(key) for key in ("dataset_namespace", "dataset_name", "manifest_hash"))
        dataset = f"{space}/{name}" if space and name else None
        return Attempt(index, failures, dataset, manifest if isinstance(manifest, str) else None)
