"""What happens in one schedule: a pure choice from its number, so that a number is enough to do it again.

Faults come in rounds, so that no luck is needed: six schedules in a row arm each failpoint once, fifteen bring each
outside fault, and from round to round each point meets another action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TypeVar

from ampd_ray.failpoints import POINTS

T = TypeVar("T")
POINTS_EACH = 3  # failpoints of a schedule
ACTIONS = ("kill", "stop", "raise", "delay")
STOP_SECS = 6.0  # longer than a lease lives, and than a node may be silent
DELAY_SECS = 1.0
# Points that are reached several times a second: any of the first hits may be the one.
BUSY = POINTS[1:11]
HITS = 6
ANNOUNCED = ("intent-written", "file-closed", "published", "before-commit")  # dying here leaves an intent behind


class Outside(StrEnum):
    """What happens to whole processes, to the server and to the lines between."""

    KILL_DRIVER = "kill driver"
    KILL_GROUP = "kill all of a worker"
    KILL_COORDINATOR = "kill coordinator"
    KILL_EXTRACTOR = "kill extractor"
    KILL_WRITER = "kill writer"
    PAUSE_WORKER = "pause worker"
    PAUSE_WRITER = "pause writer"
    DRAIN = "drain"
    RESTART_FAST = "restart Postgres (fast)"
    RESTART_IMMEDIATE = "restart Postgres (immediate)"
    CUT = "cut the line to Postgres"
    BLACKHOLE = "hold back all that passes to and from Postgres"
    LATENCY = "slow line to Postgres"
    COMMIT_UNSENT = "cut a COMMIT"
    COMMIT_UNHEARD = "cut the answer to a COMMIT"


class OfJob(StrEnum):
    """What happens to one job only; others must not notice."""

    STOP_RESUME = "stop and resume"
    RPC_CUT = "RPC connections closed"
    RPC_SLOW = "RPC answers late"
    RPC_LIMIT = "RPC answers 429"
    RPC_ERROR = "RPC answers 500"
    RPC_HALF = "RPC answers half"


DEADLY = (Outside.KILL_DRIVER, Outside.KILL_GROUP, Outside.KILL_COORDINATOR, Outside.PAUSE_WORKER)


@dataclass(frozen=True)
class Arm:
    """One failpoint; ``text`` is how a process is told."""

    point: str
    action: str
    hit: int = 1

    @property
    def text(self) -> str:
        secs = {"stop": f"({STOP_SECS:g})", "delay": f"({DELAY_SECS:g})"}.get(self.action, "")
        return f"{self.point}={self.action}{secs}@{self.hit}"


@dataclass(frozen=True)
class Fault:
    """An outside fault that begins ``at`` seconds after the failpoints are armed and lasts ``secs`` seconds."""

    kind: Outside
    at: float
    secs: float


@dataclass(frozen=True)
class Schedule:
    """All that is injected under one seed. ``reorg``: how many blocks are replaced, 0 for none."""

    seed: int
    arms: tuple[Arm, ...]
    faults: tuple[Fault, ...]
    of_job: OfJob
    reorg: int

    def __str__(self) -> str:
        happens = [self.of_job.value, *(arm.text for arm in self.arms)]
        happens += [f"{fault.kind.value} at {fault.at:.1f}" for fault in self.faults]
        return ", ".join(happens + ([f"reorg of {self.reorg}"] if self.reorg else []))


def schedule(seed: int) -> Schedule:
    """The schedule of ``seed``, 1 or more."""
    rng = Random(seed)
    number, part = divmod(seed - 1, len(POINTS) // POINTS_EACH)
    points = _shuffled(POINTS, f"points {number}")[POINTS_EACH * part : POINTS_EACH * (part + 1)]
    arms = [_arm(rng, point, number) for point in points]
    if {"sweep-found", "sweep-deleted"} & set(points) and not any(_leaves_an_intent(arm) for arm in arms):
        free = [point for point in ANNOUNCED if point not in points]
        arms.append(Arm(rng.choice(free), rng.choice(("kill", "raise")), rng.randint(1, HITS)))
    kinds = {_in_turn(tuple(Outside), seed, "outside")}
    if {"takeover-claiming", "takeover-claimed"} & set(points) and not kinds & set(DEADLY):
        kinds.add(rng.choice(DEADLY))
    if "draining" in points:
        kinds.add(Outside.DRAIN)
    of_job = OfJob.STOP_RESUME if "job-claimed" in points else _in_turn(tuple(OfJob), seed, "of job")
    reorg = rng.randint(1, 4) if "sweep-collected" in points or rng.random() < 0.2 else 0
    return Schedule(seed, tuple(arms), tuple(_fault(rng, kind) for kind in sorted(kinds)), of_job, reorg)


def _arm(rng: Random, point: str, number: int) -> Arm:
    action = ACTIONS[(number + POINTS.index(point)) % len(ACTIONS)]
    return Arm(point, action, rng.randint(1, HITS) if point in BUSY else 1)


def _leaves_an_intent(arm: Arm) -> bool:
    return arm.point in ANNOUNCED and arm.action in ("kill", "raise")


def _fault(rng: Random, kind: Outside) -> Fault:
    longer = {Outside.PAUSE_WORKER, Outside.PAUSE_WRITER, Outside.BLACKHOLE}
    secs = STOP_SECS + rng.uniform(0.0, 1.0) if kind in longer else rng.uniform(0.5, 3.0)
    return Fault(kind, round(rng.uniform(0.2, 2.5), 2), round(secs, 2))


def _in_turn(kinds: Sequence[T], seed: int, what: str) -> T:
    number, place = divmod(seed - 1, len(kinds))
    return _shuffled(kinds, f"{what} {number}")[place]


def _shuffled(things: Sequence[T], seed: str) -> list[T]:
    return Random(seed).sample(things, len(things))
