"""How long a backfill takes with so many extractors, and what limits it then; pure.

Each bound alone would take so long; the longest decides. An extractor has a core of its own, and so has each writer.
"""

from __future__ import annotations

from dataclasses import dataclass

from ampd_ray.materialize.state import TASK_BYTES, TASKS_PER_EXTRACTOR
from ampd_ray.providers.evm_rpc import AHEAD_BYTES, MOST_AHEAD
from ampd_ray.providers.limits import MAX_IN_FLIGHT

# Measured in a solo environment: what is no one's share of a block.
BEGIN_SECS = 2.0  # of the command before its first request and after its last commit
START_SECS = 8.0  # before that, where no environment runs
UNIT_SECS = 0.25  # a writer takes the next unit when the last is committed, and its first task has to come
TASK_SECS = 0.01  # to hand one over: messages and a copy
OTHERS = 1.15  # CPU of all processes, of which extractors and writers have one part


@dataclass(frozen=True)
class Work:
    """What there is to do. CPU seconds are of all of it on this machine; sizes are bytes, of one block on average.

    ``trips`` are requests one after the other for a part; ``per_minute`` holds for each extractor.
    """

    blocks: float
    parts: float
    requests: float
    trips: float
    latency_secs: float
    part_bytes: float
    arrow_bytes_a_block: float
    batch_size: int
    task_blocks: float
    tasks: float
    units: float
    extract_secs: float
    write_secs: float
    writers: int
    per_minute: int | None
    in_flight: int
    memory_bytes: int
    begin_secs: float


@dataclass(frozen=True)
class Bound:
    """``seconds`` that one thing alone would take: ``rate limit``, ``latency``, ``memory``, ``cpu`` or ``writer``."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Machine:
    """One that all processes share: its ``cores``, and how many seconds a CPU second takes now, for what others do."""

    cores: int
    crowding: float = 1.0

    def left(self, processes: float) -> float:
        """The cores that so many processes get together, beside those that crowd it."""
        others = self.cores * (self.crowding - 1)
        return self.cores * processes / (processes + others)


def pace(work: Work, extractors: int, machine: Machine | None = None) -> Bound:
    """What limits, and the seconds from the command to its end; without a ``machine`` there are cores enough."""
    extract_secs = work.extract_secs + TASK_SECS * work.tasks
    bounds = [
        Bound("cpu", extract_secs / extractors),
        Bound("writer", work.write_secs / work.writers),
        _latency(work, extractors),
        Bound("rate limit", _by_rate(work)),
    ]
    begin_secs = work.begin_secs
    if machine is not None:
        begin_secs *= machine.crowding
        all_secs = OTHERS * (extract_secs + work.write_secs)
        bounds.append(Bound("cpu", all_secs / machine.left(extractors + work.writers + 1)))
    slowest = max(bounds, key=lambda bound: bound.seconds)
    return Bound(slowest.name, slowest.seconds + begin_secs + UNIT_SECS * work.units / work.writers)


def _latency(work: Work, extractors: int) -> Bound:
    """By what is under way at a time: as a source asks ahead, of the tasks that it has, within the job's memory."""
    ahead = min(MOST_AHEAD, max(1.0, AHEAD_BYTES / max(1.0, 2 * work.part_bytes)))
    of_tasks = TASKS_PER_EXTRACTOR * max(1.0, work.task_blocks / work.batch_size)
    wanted = min(extractors * min(ahead, of_tasks, MAX_IN_FLIGHT), work.in_flight)
    tasks_in_memory = max(
        1.0, work.memory_bytes / min(TASK_BYTES, work.task_blocks * max(1.0, work.arrow_bytes_a_block))
    )
    held = tasks_in_memory * max(1.0, work.task_blocks / work.batch_size)
    parts = work.parts * work.trips * work.latency_secs / min(wanted, held)
    requests = work.requests * work.latency_secs / min(work.in_flight, extractors * MAX_IN_FLIGHT)
    return Bound("memory" if held < wanted else "latency", max(parts, requests))


def _by_rate(work: Work) -> float:
    """The extractors share a bucket, which is full at first."""
    if work.per_minute is None:
        return 0.0
    return max(0.0, work.requests - work.per_minute) * 60 / work.per_minute
