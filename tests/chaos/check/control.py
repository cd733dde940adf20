"""I5 and I6: statuses are what the events say, steps were allowed, no job is stuck, epochs only rise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import psycopg

# From each status, those that may follow it (metadata-db.md 5.2).
LEGAL = {
    "SCHEDULED": {"RUNNING", "STOP_REQUESTED", "ERROR", "FATAL"},
    "RUNNING": {"STOP_REQUESTED", "COMPLETED", "ERROR", "FATAL"},
    "STOP_REQUESTED": {"STOPPING"},
    "STOPPING": {"STOPPED"},
    **{ended: {"SCHEDULED"} for ended in ("STOPPED", "COMPLETED", "ERROR", "FATAL")},
}
STUCK_SECS = 20  # a job of a dead node has found another by then

# A job that changes hands is RUNNING once more (7.6).
EVENTS = """
select job_id, event_type
from (select *, lag(event_type) over (partition by job_id order by id) as before from job_events) e
where not (event_type = 'RUNNING' and before = 'RUNNING' and detail ? 'reassigned_from')
order by job_id, id
"""
STATUSES = "select job_id, status from jobs_status"
STUCK = """
select s.job_id, s.status, s.node_id
from jobs_status s join workers w using (node_id)
where s.status not in ('COMPLETED', 'STOPPED', 'ERROR', 'FATAL')
  and w.heartbeat_at < (now() at time zone 'utc') - make_interval(secs => %s)
  and s.updated_at < (now() at time zone 'utc') - make_interval(secs => %s)
"""
LEASES = """
select 'revision ' || location_id, epoch from ampd_ray.location_lease
union all select 'node ' || node_id, epoch from ampd_ray.node_lease
"""


def jobs(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """I5: each job's status is that of its last event, each step to it was allowed, and none waits for a dead node."""
    events: dict[int, list[str]] = defaultdict(list)
    for job_id, event in connection.execute(EVENTS).fetchall():
        events[job_id].append(event)
    for job_id, status in connection.execute(STATUSES).fetchall():
        history = events[job_id]
        if not history or history[-1] != status or history[0] != "SCHEDULED":
            yield f"I5 job {job_id}: status {status}, events {history}"
        for before, after in pairwise(history):
            if after not in LEGAL[before]:
                yield f"I5 job {job_id}: {before} was followed by {after}"


def stuck(connection: psycopg.Connection[Any], secs: float = STUCK_SECS) -> Iterator[str]:
    """I5: no open job belongs to a node that has been silent for ``secs``."""
    for job_id, status, node_id in connection.execute(STUCK, [secs, secs]).fetchall():
        yield f"I5 job {job_id}: {status} on {node_id}, which is dead"


class Epochs:
    """I6: remembers the epochs of all leases from one look to the next."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def look(self, connection: psycopg.Connection[Any]) -> Iterator[str]:
        """Whose epoch has fallen since the last look."""
        now = dict(connection.execute(LEASES).fetchall())
        for what, before in self._seen.items():
            if now.get(what, 0) < before:
                yield f"I6 {what}: its epoch was {before}, now it is {now.get(what)}"
        self._seen |= now
