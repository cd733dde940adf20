"""What happens in a pass, and what is to be done about it: the words between ``state.py`` and ``perform.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import AmpdError, OutOfMemory, RowsLost
from ampd_ray.materialize.plan import Unit

# -- events: what happened ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskExtracted:
    """The rows of ``span`` are in memory somewhere; ``nbytes`` of Arrow data, for which an extractor took ``secs``."""

    partition: int
    span: Span
    nbytes: int
    secs: float = 0.0


@dataclass(frozen=True)
class TaskFailed:
    """Extracting ``span`` failed for a reason of its own."""

    partition: int
    span: Span
    error: AmpdError


@dataclass(frozen=True)
class TaskLost:
    """The extractor or the extracted rows vanished: nobody's fault."""

    partition: int
    span: Span
    out_of_memory: bool = False


@dataclass(frozen=True)
class TaskHandedBack:
    """The extractor's Ray node is about to go: the rows of ``done``, the first blocks of ``span``, are all it gives.

    None: of no block. ``nbytes`` of Arrow data.
    """

    partition: int
    span: Span
    done: Span | None = None
    nbytes: int = 0


@dataclass(frozen=True)
class TaskAppended:
    """These spans are in the partition's open file or further."""

    partition: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class PartitionOpened:
    """A writer is ready for the partition."""

    partition: int


@dataclass(frozen=True)
class PartitionFinished:
    """All blocks of the partition are committed."""

    partition: int


@dataclass(frozen=True)
class SegmentCommitted:
    """The open file of the partition was committed; ``still_open``: a new one holds the rows that came after it."""

    partition: int
    still_open: bool = False


@dataclass(frozen=True)
class WriterLost:
    """The partition's writer vanished or gave the partition up; what it had not committed is to be planned again."""

    partition: int


@dataclass(frozen=True)
class WriterLeaves:
    """The Ray node of the partition's writer is about to go; ``now``: no later than now it has to commit."""

    partition: int
    now: bool = False


@dataclass(frozen=True)
class PartitionFailed:
    """Writing or committing failed for good."""

    partition: int
    error: AmpdError


@dataclass(frozen=True)
class Crashed:
    """Something failed that belongs to no partition, or in a way that nobody foresaw."""

    error: AmpdError


@dataclass(frozen=True)
class StopAsked:
    """Finish what can be committed and hand out nothing more."""


@dataclass(frozen=True)
class LeasesLapsed:
    """Nobody knows whether the leases are ours yet: hand out nothing more for now."""


@dataclass(frozen=True)
class LeasesRenewed:
    """The leases are ours, and were nobody else's meanwhile."""


@dataclass(frozen=True)
class Tick:
    """Time has passed; ``now`` in seconds of a monotonic clock. ``max_tasks`` keep all extractors of now busy."""

    now: float
    max_tasks: int


OfThePass = Tick | StopAsked | LeasesLapsed | LeasesRenewed
Event = (
    TaskExtracted
    | TaskFailed
    | TaskLost
    | TaskHandedBack
    | TaskAppended
    | PartitionOpened
    | PartitionFinished
    | SegmentCommitted
    | WriterLost
    | WriterLeaves
    | PartitionFailed
    | Crashed
    | OfThePass
)


def lost(partition: int, span: Span, error: AmpdError) -> TaskLost:
    """The event for a task that an extractor took with it, or whose rows got lost."""
    too_much = isinstance(error, OutOfMemory) or (isinstance(error, RowsLost) and error.no_room)
    return TaskLost(partition, span, out_of_memory=too_much)


# -- instructions: what to do -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenPartition:
    """Give this unit to a writer."""

    partition: int
    unit: Unit


@dataclass(frozen=True)
class Extract:
    """Extract ``span``, after ``delay`` seconds, from the ``provider`` of this number."""

    partition: int
    span: Span
    delay: float = 0.0
    provider: int = 0


@dataclass(frozen=True)
class Append:
    """Pass the extracted rows of ``span`` to the partition's writer."""

    partition: int
    span: Span


@dataclass(frozen=True)
class SetAside:
    """Do without a block that no provider delivers; ``faults`` is what each of them failed with, by number."""

    partition: int
    block: int
    faults: Mapping[int, AmpdError]


@dataclass(frozen=True)
class Flush:
    """Commit what the open file of the partition holds; ``reason`` is ``age``, ``stop`` or ``leave``."""

    partition: int
    reason: str


@dataclass(frozen=True)
class Abandon:
    """Forget the partition: cancel its tasks, discard its open file."""

    partition: int


@dataclass(frozen=True)
class Finish:
    """The pass is over; ``error`` says that the job is too."""

    error: AmpdError | None = None


Instruction = OpenPartition | Extract | Append | SetAside | Flush | Abandon | Finish
