"""Where a job runs and when it is tried again, as pure functions (``spec/metadata-db.md`` 7.1, 7.4)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ampd_ray.datasets.names import node_id as valid_node_id
from ampd_ray.errors import SchedulerError, WorkerNotAvailable

MAX_RETRY_SECS = 300.0
RETRY_JITTER = 0.2
MAX_DOUBLINGS = 16  # beyond every cap; keeps the power small
MAX_SCHEDULED_EVENTS = 40  # Amp's own retry query fails at 44 (5.8)

START_HINT = "Start one with: ampd worker --config <file> --node-id <id>"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker as the scheduler sees it. ``load`` is its number of non-terminal jobs."""

    node_id: str
    alive: bool
    load: int
    draining: bool = False

    @property
    def usable(self) -> bool:
        """True if new work may go there."""
        return self.alive and not self.draining


def choose_worker(candidates: Sequence[Candidate], selector: str | None, rng: random.Random) -> str:
    """The node id for a new job: of the usable workers that match, the least loaded, ties at random.

    ``selector`` is None (any), a node id, or ``prefix*``. Raises :class:`WorkerNotAvailable` for a node id that is not
    usable, :class:`SchedulerError` if nothing matches, :class:`InvalidName` for a malformed selector.
    """
    if selector is None:
        return _least_loaded(candidates, rng, f"no worker is alive{_known(candidates)}. {START_HINT}")
    if selector.endswith("*"):
        prefix = valid_node_id(selector[:-1])
        matching = [c for c in candidates if c.node_id.startswith(prefix)]
        missing = f"no live worker's id starts with {prefix!r}{_known(candidates)}. {START_HINT}"
        return _least_loaded(matching, rng, missing)
    name = valid_node_id(selector)
    if not any(c.usable for c in candidates if c.node_id == name):
        raise WorkerNotAvailable(f"worker {name!r} is not alive{_known(candidates)}. {START_HINT}", worker=name)
    return name


def _least_loaded(candidates: Iterable[Candidate], rng: random.Random, missing: str) -> str:
    usable = [c for c in candidates if c.usable]
    if not usable:
        raise SchedulerError(missing)
    lowest = min(c.load for c in usable)
    return rng.choice(sorted(c.node_id for c in usable if c.load == lowest))


def _known(candidates: Sequence[Candidate]) -> str:
    alive = sorted(c.node_id for c in candidates if c.usable)
    draining = sum(c.alive and c.draining for c in candidates)
    dead = sum(not c.alive for c in candidates)
    shown = ", ".join(alive[:5]) + (" …" if len(alive) > 5 else "")
    return f" (alive: {shown or 'none'}; draining: {draining}; dead: {dead})"


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job in ERROR. ``failures`` counts consecutive ones; ``next_retry_at`` is None if nobody has set it."""

    job_id: int
    failures: int
    failed_at: datetime
    next_retry_at: datetime | None
    scheduled_events: int


def retry_delay(failures: int, jitter: float, *, max_secs: float = MAX_RETRY_SECS) -> timedelta:
    """How long to wait after the ``failures``-th failure in a row. ``jitter`` in [0, 1) spreads it by ± 20 %."""
    base = min(max_secs, 2.0 ** min(failures, MAX_DOUBLINGS))
    return timedelta(seconds=base * (1 - RETRY_JITTER + 2 * RETRY_JITTER * jitter))


def due(
    rows: Iterable[FailedJob], now: datetime, *, max_attempts: int, max_secs: float = MAX_RETRY_SECS
) -> list[FailedJob]:
    """The jobs to schedule again now, longest waiting first.

    Left alone: those with ``max_attempts`` consecutive failures, or with so many SCHEDULED events that one more would
    stop Amp's retry loop. A job without ``next_retry_at`` (an Amp worker's) counts from its failure.
    """

    def at(row: FailedJob) -> datetime:
        return row.next_retry_at or row.failed_at + retry_delay(max(row.failures, 1), 0.5, max_secs=max_secs)

    hopeful = (r for r in rows if r.failures < max_attempts and r.scheduled_events < MAX_SCHEDULED_EVENTS)
    return sorted((r for r in hopeful if at(r) <= now), key=lambda r: (at(r), r.job_id))
