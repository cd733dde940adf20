"""Where a job runs (``spec/metadata-db.md`` 7.1), as a pure function; when it is tried again is in metadb/statuses."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ampd_ray.datasets.names import node_id as valid_node_id
from ampd_ray.errors import InvalidName, SchedulerError, WorkerNotAvailable

START_HINT = (
    "Start one with: ampd worker --config <file> --node-id <id>; in a solo environment with: ampd solo, or amp.local()"
)


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
        if selector == "*":
            raise InvalidName("give a node id, or the beginning of one with a * behind it; none: any worker")
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
