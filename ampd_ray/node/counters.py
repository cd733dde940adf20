"""What a node counts, for its log, its tests and its metrics (``spec/metadata-db.md`` 11.2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """All only grow, except ``loop_lag_secs``: the worst delay of the event loop within the last second."""

    beats: int = 0
    late_beats: int = 0  # beats that failed or took longer than their limit
    registrations: int = 0
    lock_waits: int = 0  # times that the node id was found in use
    session_reconnects: int = 0  # of the session that holds the node lock
    lost_sessions_ended: int = 0  # of this process, which the server took for alive
    listens: int = 0  # sessions that LISTEN; above 1, hints were lost and all rows were read
    notifications: int = 0
    malformed_notifications: int = 0
    reconciles: int = 0
    failed_reconciles: int = 0
    job_starts: int = 0
    state_conflicts: int = 0
    lease_lapses: int = 0  # times that a job paused because its leases were not renewed in time
    lease_losses: int = 0  # jobs that ended because another node took their leases
    takeover_looks: int = 0  # at the jobs of other nodes
    takeovers: int = 0  # jobs taken over from other nodes
    unknown_statuses: int = 0
    database_retries: int = 0
    loop_lag_secs: float = 0.0
