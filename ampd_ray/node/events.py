"""What a node is told and what it is told to do: the facts and orders of :mod:`ampd_ray.node.state`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError
from ampd_ray.materialize.types import JobOutcome
from ampd_ray.metadb.statuses import JobStatus


@dataclass(frozen=True, slots=True)
class Row:
    """A job's row as just read, with its parsed descriptor or the error that parsing gave."""

    job_id: int
    status: JobStatus
    ours: bool
    descriptor: JobDescriptor | AmpdError


# -- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Notified:
    """Somebody says that this job's row changed."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """All non-terminal rows of this node: job id to status."""

    rows: Mapping[int, JobStatus]


@dataclass(frozen=True, slots=True)
class RowRead:
    """The row of one job was read; ``row`` is None if there is none."""

    job_id: int
    row: Row | None


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The local task of a job has ended."""

    job_id: int
    outcome: JobOutcome


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The node is fenced: another process owns its id now."""


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """The process was asked to drain."""


Event = Notified | Reconciled | RowRead | JobEnded | LeaseLost | ShutdownAsked


# -- instructions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadRow:
    """Read the job's row and descriptor, at once or after a pause; answer with ``RowRead``."""

    job_id: int
    after_secs: float = 0.0


@dataclass(frozen=True, slots=True)
class StartJob:
    """Start the task; its row is RUNNING. Answer with ``JobEnded`` when it has ended."""

    job_id: int
    descriptor: JobDescriptor


@dataclass(frozen=True, slots=True)
class StopJob:
    """End the task gracefully: finish and commit what can be finished soon."""

    job_id: int


@dataclass(frozen=True, slots=True)
class DropJob:
    """Cancel the task: discard open segments, release leases, write nothing."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Write these statuses one after the other, then read the row again."""

    job_id: int
    statuses: tuple[JobStatus, ...]
    error: AmpdError | None = None


@dataclass(frozen=True, slots=True)
class LogUnknown:
    """The row has a status that we do not know: log and count it, leave it alone."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Exit:
    """End the process."""

    code: int


Instruction = ReadRow | StartJob | StopJob | DropJob | Settle | LogUnknown | Exit
