"""What a notebook shows of each job, worker, event, failure and hole in a list of them."""

from __future__ import annotations

from collections.abc import Mapping

from ampd_ray.client.snapshot import Failure, failures_of
from ampd_ray.client.work import name_of, priority_of
from ampd_ray.metadb.jobs import JobEvent, JobRow
from ampd_ray.metadb.quarantine import Quarantined
from ampd_ray.metadb.workers import WorkerRow


def of_job(row: JobRow) -> Mapping[str, object]:
    """``amp.jobs()``."""
    return {
        "job": str(row.job_id),
        "status": row.status,
        "holes": row.holes,
        "dataset": name_of(row),
        "priority": priority_of(row),
        "node": row.node_id,
        "updated (UTC)": row.updated_at,
    }


def of_worker(row: WorkerRow) -> Mapping[str, object]:
    """``client.workers()``."""
    state = "ended" if row.ended else "silent" if not row.alive else "draining" if row.draining else "alive"
    return {"node": row.node_id, "state": state, "active jobs": row.active_jobs, "heartbeat (UTC)": row.heartbeat_at}


def of_event(event: JobEvent) -> Mapping[str, object]:
    """``job.events()``; of a failure with its reason."""
    reason = "".join(failure.message for failure in failures_of([event]))
    return {"at (UTC)": event.created_at, "event": event.event_type, "node": event.node_id, "reason": reason}


def of_failure(failure: Failure) -> Mapping[str, object]:
    """``job.failures()``."""
    return {
        "at (UTC)": failure.at,
        "node": failure.node_id,
        "code": failure.code,
        "reason": failure.message,
        "tried again": "yes" if failure.retryable else "no",
    }


def of_hole(hole: Quarantined) -> Mapping[str, object]:
    """``job.holes()``."""
    return {
        "block": hole.block,
        "reason": hole.reason,
        "provider": hole.provider,
        "attempts": hole.attempts,
        "last seen (UTC)": hole.last_seen,
    }
