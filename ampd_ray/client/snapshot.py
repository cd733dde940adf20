"""How far a job is, decided from the facts of one moment. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ampd_ray.client.progress import Progress
from ampd_ray.client.work import name_of
from ampd_ray.errors import JobFailed
from ampd_ray.log import redact
from ampd_ray.metadb.statuses import JobStatus

if TYPE_CHECKING:
    from datetime import datetime

    from ampd_ray.metadb.jobs import JobEvent, JobRow
    from ampd_ray.metadb.progress import ReportedProgress

SILENT_SECS = 10.0
"""A node reports every second: after so long without a word nobody knows how fast it is."""

FAILED = (JobStatus.ERROR, JobStatus.FATAL)


@dataclass(frozen=True)
class Committed:
    """How many blocks all tables have in committed files, of how many; the total is None while there is no last one."""

    blocks: int
    total: int | None


@dataclass(frozen=True)
class Failure:
    """A failed run: ``code`` and ``message`` as its node recorded them. ``retryable``: it was to be tried again."""

    at: datetime
    node_id: str
    code: str
    message: str
    retryable: bool


def of_this_run(row: JobRow, reported: ReportedProgress | None) -> ReportedProgress | None:
    """What the job's node said since the job was scheduled last: what is older is of an earlier run."""
    if reported is None or (row.scheduled_at is not None and reported.updated_at <= row.scheduled_at):
        return None
    return reported


def tells(row: JobRow, fresh: ReportedProgress | None) -> bool:
    """True if the node's word is the best there is: it has a plan, and is at it.

    Before that it knows of no block, and what an ended run had in open files is gone.
    """
    if fresh is None or row.status.terminal:
        return False
    return fresh.progress.blocks_total is not None or fresh.progress.blocks_done > 0


def progress_of(
    row: JobRow, fresh: ReportedProgress | None, committed: Committed | None, holes: int | None = None
) -> Progress:
    """The progress of a job by the report of this run, and by what is committed where that does not tell.

    ``committed``: None if it was not needed, or cannot be found out. ``holes``: those of its blocks.
    """
    now = None if fresh is None else fresh.progress
    at_work = now is not None and tells(row, fresh)
    lively = at_work and fresh is not None and fresh.age_secs <= SILENT_SECS
    if at_work or committed is None:
        done, total = (now.blocks_done, now.blocks_total) if now else (0, None)
    else:
        done, total = committed.blocks, committed.total
    return Progress(
        job_id=row.job_id,
        dataset=name_of(row),
        status=row.status,
        phase=now.phase if now else None,
        node_id=row.node_id,
        age_secs=fresh.age_secs if fresh else None,
        done=done,
        total=total,
        rows=dict(now.rows_by_table) if now else {},
        bytes=now.bytes if now else 0,
        retries=now.retries if now else 0,
        rpc_requests=now.rpc_requests if now else 0,
        blocks_per_sec=now.rate if now and lively else None,
        rows_per_sec=now.rows_rate if now and lively else None,
        requests_per_sec=now.requests_rate if now and lively else None,
        limit=now.limiting_factor if now and lively else None,
        eta_secs=now.eta_secs if now and lively else None,
        holes=row.holes if holes is None else holes,
        error=_reason(row.detail)[1] if row.status in FAILED else None,
    )


def failure_of(row: JobRow) -> JobFailed | None:
    """Why a job failed, with its error code as ``step``; None if it runs, is complete or was stopped."""
    if row.status not in FAILED:
        return None
    code, reason = _reason(row.detail)
    return JobFailed(
        f"job {row.job_id} ended as {row.status}: {reason} [{code}]",
        step=code,
        retryable=row.status is JobStatus.ERROR,
        job_id=row.job_id,
    )


def failures_of(events: Sequence[JobEvent]) -> list[Failure]:
    """The runs that failed, oldest first."""
    failed = [(event, JobStatus.read(event.event_type)) for event in events]
    return [
        Failure(event.created_at, event.node_id, *_reason(event.detail), retryable=status is JobStatus.ERROR)
        for event, status in failed
        if status in FAILED
    ]


def _reason(detail: Any) -> tuple[str, str]:
    """Code and message of an error JSON, which may be anybody's: without the secrets that we would not have written."""
    told = detail if isinstance(detail, dict) else {}
    code, message = told.get("error_code") or "UNKNOWN", told.get("error_message") or "no reason is recorded"
    return redact(str(code)), redact(str(message))
