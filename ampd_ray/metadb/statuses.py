"""The life of a job, said once (``spec/metadata-db.md`` 5.1, 5.2, 5.8, 7.4). Pure."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Final


class JobStatus(StrEnum):
    """Where a job is; UNKNOWN is what we cannot read, and leave alone."""

    SCHEDULED = "SCHEDULED"
    RUNNING = "RUNNING"
    STOP_REQUESTED = "STOP_REQUESTED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    FATAL = "FATAL"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def read(cls, text: str) -> JobStatus:
        """The status that a row states, in any case."""
        try:
            return cls(text.upper())
        except ValueError:
            return cls.UNKNOWN

    @property
    def terminal(self) -> bool:
        """The job is at an end, until somebody schedules it again."""
        return self in TERMINAL


_S = JobStatus
TERMINAL: Final = frozenset({_S.COMPLETED, _S.STOPPED, _S.ERROR, _S.FATAL})
ACTIVE: Final = frozenset({_S.SCHEDULED, _S.RUNNING, _S.STOP_REQUESTED, _S.STOPPING})

TRANSITIONS: Final[dict[JobStatus, frozenset[JobStatus]]] = {
    _S.SCHEDULED: TERMINAL,
    _S.RUNNING: frozenset({_S.SCHEDULED}),
    _S.STOP_REQUESTED: frozenset({_S.SCHEDULED, _S.RUNNING}),
    _S.STOPPING: frozenset({_S.STOP_REQUESTED}),
    _S.STOPPED: frozenset({_S.STOPPING}),
    _S.COMPLETED: frozenset({_S.RUNNING}),
    _S.ERROR: frozenset({_S.SCHEDULED, _S.RUNNING}),
    _S.FATAL: frozenset({_S.SCHEDULED, _S.RUNNING}),
}
"""To each status, those from which it may be reached."""

FAILURES_MAX: Final = 20
"""So many failed runs in a row end a job for good."""

SCHEDULED_MAX: Final = 40
"""So many SCHEDULED events, and Amp's controller must never again see the job in ERROR: it fails at 44."""

RETRY_DELAY_MAX: Final = timedelta(seconds=300)


def failure_status(*, retryable: bool, failures: int, scheduled: int, failures_max: int = FAILURES_MAX) -> JobStatus:
    """ERROR if the job shall be tried again, else FATAL.

    ``failures``: failed runs in a row, this one included; ``scheduled``: SCHEDULED events of the job.
    """
    again = retryable and failures < failures_max and scheduled < SCHEDULED_MAX
    return JobStatus.ERROR if again else JobStatus.FATAL


def retry_delay(failures: int, spread: float, longest: timedelta = RETRY_DELAY_MAX) -> timedelta:
    """How long to wait after so many failed runs in a row; ``spread`` is drawn from 0.8 to 1.2."""
    return min(longest, timedelta(seconds=2 ** min(failures, 30))) * spread
