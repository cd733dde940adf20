"""Which Ray node is lost next, and amid what: a pure choice from a seed, in rounds, so that no luck is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random

STAGES = (  # all that a job goes through where a coordinator or a writer is; extracting is where extractors are
    "job-claimed", "planned", "task-dispatched", "task-returned", "intent-written", "mid-file", "file-closed",
    "published", "before-commit", "in-commit", "committed", "before-settle", "takeover-claiming", "takeover-claimed",
)  # fmt: skip
OFTEN = STAGES[3:11]  # reached again and again: any of the first hits of a job that is at work may be the one
HITS = 2


class Loss(StrEnum):
    """Whose Ray node is lost, and whether somebody says so before."""

    WORKER = "worker"
    EXTRACTORS = "extractors"
    EXTRACTORS_NOTICE = "extractors, with notice"
    WORKER_NOTICE = "worker, with notice"

    @property
    def of_worker(self) -> bool:
        return self in (Loss.WORKER, Loss.WORKER_NOTICE)

    @property
    def noticed(self) -> bool:
        return self in (Loss.EXTRACTORS_NOTICE, Loss.WORKER_NOTICE)


ROUND = (Loss.WORKER, Loss.EXTRACTORS, Loss.WORKER, Loss.EXTRACTORS_NOTICE, Loss.WORKER, Loss.WORKER_NOTICE)


@dataclass(frozen=True)
class Step:
    """One loss. ``stage``: the failpoint that holds a process of the Ray node when it goes; None: whatever it does."""

    number: int
    loss: Loss
    stage: str | None = None
    hit: int = 1

    def __str__(self) -> str:
        return f"{self.loss}, amid {self.stage}" if self.stage else self.loss.value


def steps(seed: int, count: int) -> list[Step]:
    """``count`` steps; a worker's Ray node is lost amid each stage in turn."""
    rng = Random(seed)
    stages = iter([stage for _ in range(count // len(STAGES) + 1) for stage in rng.sample(STAGES, len(STAGES))])
    return [step(number, ROUND[number % len(ROUND)], stages, rng) for number in range(count)]


def step(number: int, loss: Loss, stages: Iterator[str], rng: Random) -> Step:
    """The next one."""
    if loss is not Loss.WORKER:
        return Step(number, loss)
    stage = next(stages)
    return Step(number, loss, stage, rng.randint(1, HITS) if stage in OFTEN else 1)
