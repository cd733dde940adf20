"""Jobs: what they are, and the moves that a worker makes (``spec/metadata-db.md`` 5).

A move is one statement: a conditional update of the status row with its event. A conflict is data: ``transition``
says False, and the caller reads the row again and decides anew. What controllers do is in ``scheduling``, what
counts failures in ``retries``; both are verbs of this module as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.retries import DueRetry, at_work, failures, record_failure, record_progress, retry_due
from ampd_ray.metadb.scheduling import delete, request_stop, reschedule, retry, schedule
from ampd_ray.metadb.statuses import ACTIVE, TERMINAL, TRANSITIONS, JobStatus, failure_status, retry_delay

__all__ = [
    "ACTIVE",
    "TERMINAL",
    "TRANSITIONS",
    "DueRetry",
    "JobEvent",
    "JobRow",
    "JobStatus",
    "at_work",
    "delete",
    "descriptor",
    "events",
    "failure_status",
    "failures",
    "get",
    "list_jobs",
    "mine",
    "record_failure",
    "record_progress",
    "request_stop",
    "reschedule",
    "retry",
    "retry_delay",
    "retry_due",
    "schedule",
    "scheduled_count",
    "settled",
    "transition",
]

_SQL: Final = load(__file__)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as it stands.

    ``written``: the status as the row states it. ``detail``: the descriptor while SCHEDULED, the error JSON in ERROR
    and FATAL. ``descriptor``: the JSON of the newest SCHEDULED event, which is of ``scheduled_at``, None if there is
    none. ``holes``: blocks of its dataset that no provider delivers correctly, and that it does without.
    """

    job_id: int
    node_id: str
    written: str
    detail: Any
    created_at: datetime
    updated_at: datetime
    descriptor: Any
    scheduled_at: datetime | None
    holes: int

    @property
    def status(self) -> JobStatus:
        """Where the job is."""
        return JobStatus.read(self.written)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One line in the history of a job; ``event_type`` takes the statuses."""

    id: int
    created_at: datetime
    node_id: str
    event_type: str
    detail: Any


async def get(conn: Connection, job_id: int) -> JobRow | None:
    """The job, None if there is none."""
    found = await _select(conn, job_id=job_id)
    return found[0] if found else None


async def mine(conn: Connection, node_id: str) -> list[JobRow]:
    """The jobs that this node has in hand, STOPPING ones included, in id order."""
    return await _select(conn, node_id=node_id, statuses=ACTIVE)


async def list_jobs(
    conn: Connection, *, node_id: str | None = None, statuses: Iterable[JobStatus] | None = None
) -> list[JobRow]:
    """All jobs, or those of a node or in some statuses, in id order."""
    return await _select(conn, node_id=node_id, statuses=statuses)


async def descriptor(conn: Connection, job_id: int) -> JobDescriptor:
    """What the job is to do. Raises an AmpdError with INVALID_DESCRIPTOR or UNSUPPORTED_JOB_KIND."""
    row = await (await conn.execute(_SQL["descriptor"], {"job_id": job_id})).fetchone()
    return JobDescriptor.parse((row and row.text) or "null")


async def scheduled_count(conn: Connection, job_id: int) -> int:
    """How often the job was scheduled: Amp's ``attempt_index``, 1 for the first run."""
    row = await (await conn.execute(_SQL["scheduled_count"], {"job_id": job_id})).fetchone()
    return int(row.count) if row else 0


async def events(conn: Connection, job_id: int) -> list[JobEvent]:
    """The history of the job, oldest first."""
    async with conn.cursor(row_factory=class_row(JobEvent)) as cursor:
        await cursor.execute(_SQL["events"], {"job_id": job_id})
        return await cursor.fetchall()


async def transition(
    conn: Connection, job_id: int, to: JobStatus, node_id: str, detail: Mapping[str, Any] | None = None
) -> bool:
    """Move a job of ``node_id`` to ``to``, from wherever ``TRANSITIONS`` allows; False: it was not there.

    ``detail`` goes into the event, and into the status row for ERROR and FATAL. If the database is lost here, ask
    ``settled`` before trying again. Controllers' moves (to SCHEDULED, STOP_REQUESTED) have verbs of their own.
    """
    json = None if detail is None else Jsonb(detail)
    values = {
        "job_id": job_id,
        "node_id": node_id,
        "to": to.value,
        "expected": sorted(TRANSITIONS[to]),
        "status_detail": json if to in (JobStatus.ERROR, JobStatus.FATAL) else None,
        "event_detail": json,
    }
    return (await conn.execute(_SQL["transition"], values)).rowcount == 1


async def settled(conn: Connection, job_id: int, node_id: str, status: JobStatus) -> bool:
    """Whether the job is in ``status`` by our own hand: a move whose acknowledgement was lost did happen (5.2)."""
    values = {"job_id": job_id, "node_id": node_id, "status": status.value}
    row = await (await conn.execute(_SQL["settled"], values)).fetchone()
    return bool(row and row.settled)


async def _select(
    conn: Connection,
    *,
    job_id: int | None = None,
    node_id: str | None = None,
    statuses: Iterable[JobStatus] | None = None,
) -> list[JobRow]:
    values = {
        "job_id": job_id,
        "node_id": node_id,
        "statuses": None if statuses is None else [status.value for status in statuses],
    }
    async with conn.cursor(row_factory=class_row(JobRow)) as cursor:
        await cursor.execute(_SQL["select_jobs"], values)
        return await cursor.fetchall()
