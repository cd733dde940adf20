"""The tables 5.3 and 5.4 of ``spec/metadata-db.md``: what a worker does when it reads a row, and when a task ends."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.node.events import DropJob, Instruction, LogUnknown, Settle, StopJob


class Phase(StrEnum):
    """Where the local run of a job stands."""

    RUNNING = "running"  # it runs, or is about to
    STOPPING = "stopping"  # asked to end gracefully, because of its row or because the node drains
    REPLACING = "replacing"  # asked to end gracefully, because its row has another descriptor
    DROPPED = "dropped"  # cancelled: the row is not ours any more, nothing will be written
    ENDED = "ended"  # it has ended; its outcome waits to be settled


class Seen(StrEnum):
    """What a row means to this node."""

    GONE = "gone"  # absent, of another node, or terminal
    SCHEDULED_SAME = "scheduled_same"  # the descriptor that the task runs with
    SCHEDULED_OTHER = "scheduled_other"
    RUNNING = "running"
    STOP_REQUESTED = "stop_requested"
    STOPPING = "stopping"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """The cells of table 5.3."""

    NOTHING = "nothing"
    LOG = "log"
    MARK = "mark"  # -> RUNNING; a job without a task starts when its row, read again, says so
    START = "start"
    REPLACE = "replace"  # drain; the SCHEDULED row starts the job anew when the task has ended
    STOP = "stop"  # ask the task to end
    MARK_STOPPING = "mark_stopping"  # -> STOPPING
    MARK_STOPPING_AND_STOP = "mark_stopping_and_stop"
    SETTLE_STOPPED = "settle_stopped"  # -> STOPPED
    SETTLE_STOP = "settle_stop"  # -> STOPPING -> STOPPED
    DROP = "drop"


WITHOUT_TASK: Mapping[Seen, Action] = {
    Seen.GONE: Action.NOTHING,
    Seen.SCHEDULED_SAME: Action.MARK,
    Seen.SCHEDULED_OTHER: Action.MARK,
    Seen.RUNNING: Action.START,
    Seen.STOP_REQUESTED: Action.SETTLE_STOP,
    Seen.STOPPING: Action.SETTLE_STOPPED,
    Seen.UNKNOWN: Action.LOG,
}

_ENDING: Mapping[Seen, Action] = {
    Seen.GONE: Action.DROP,
    Seen.SCHEDULED_SAME: Action.NOTHING,  # starts anew once the task has ended
    Seen.SCHEDULED_OTHER: Action.NOTHING,
    Seen.RUNNING: Action.NOTHING,
    Seen.STOP_REQUESTED: Action.MARK_STOPPING,
    Seen.STOPPING: Action.NOTHING,
    Seen.UNKNOWN: Action.LOG,
}

WITH_TASK: Mapping[Phase, Mapping[Seen, Action]] = {
    Phase.RUNNING: {
        Seen.GONE: Action.DROP,
        Seen.SCHEDULED_SAME: Action.MARK,
        Seen.SCHEDULED_OTHER: Action.REPLACE,
        Seen.RUNNING: Action.NOTHING,
        Seen.STOP_REQUESTED: Action.MARK_STOPPING_AND_STOP,
        Seen.STOPPING: Action.STOP,
        Seen.UNKNOWN: Action.LOG,
    },
    Phase.STOPPING: _ENDING,
    Phase.REPLACING: _ENDING,
    Phase.DROPPED: dict.fromkeys(Seen, Action.NOTHING),
}


def after_end(seen: Seen, outcome: JobOutcome) -> tuple[JobStatus, ...]:
    """Table 5.4: what to write for a task that ended while its row was ``seen``; empty = nothing.

    A SCHEDULED row is not answered here: the job starts again as one without a task. Being fenced counts as
    cancelled (5.7: no status write).
    """
    if seen is Seen.STOP_REQUESTED:
        return (JobStatus.STOPPING, JobStatus.STOPPED)
    if seen is Seen.STOPPING:
        return (JobStatus.STOPPED,)
    if seen is not Seen.RUNNING:
        return ()
    if outcome.outcome is Outcome.COMPLETED:
        return (JobStatus.COMPLETED,)
    if outcome.outcome is Outcome.FAILED:
        return (JobStatus.ERROR if outcome.error is not None and outcome.error.retryable else JobStatus.FATAL,)
    return ()


SEEN: Mapping[JobStatus, Seen] = {
    JobStatus.RUNNING: Seen.RUNNING,
    JobStatus.STOP_REQUESTED: Seen.STOP_REQUESTED,
    JobStatus.STOPPING: Seen.STOPPING,
    JobStatus.UNKNOWN: Seen.UNKNOWN,
}

NEXT_PHASE: Mapping[Action, Phase] = {
    Action.STOP: Phase.STOPPING,
    Action.MARK_STOPPING_AND_STOP: Phase.STOPPING,
    Action.MARK_STOPPING: Phase.STOPPING,
    Action.REPLACE: Phase.REPLACING,
    Action.DROP: Phase.DROPPED,
}


def orders(action: Action, job_id: int) -> list[Instruction]:
    """The orders of one cell of the table, but for START, which needs the descriptor."""
    table: dict[Action, list[Instruction]] = {
        Action.NOTHING: [],
        Action.LOG: [LogUnknown(job_id)],
        Action.MARK: [Settle(job_id, (JobStatus.RUNNING,))],
        Action.REPLACE: [StopJob(job_id)],
        Action.STOP: [StopJob(job_id)],
        Action.MARK_STOPPING: [Settle(job_id, (JobStatus.STOPPING,))],
        Action.MARK_STOPPING_AND_STOP: [StopJob(job_id), Settle(job_id, (JobStatus.STOPPING,))],
        Action.SETTLE_STOPPED: [Settle(job_id, (JobStatus.STOPPED,))],
        Action.SETTLE_STOP: [Settle(job_id, (JobStatus.STOPPING, JobStatus.STOPPED))],
        Action.DROP: [DropJob(job_id)],
    }
    return table[action]
