"""Loses one Ray node after the other, has the world looked at each time, and counts what was done again."""

from __future__ import annotations

import json
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ampd_ray.client.job import Job
from tests.chaos.check.story import Story
from tests.chaos.losses.cluster import Extractors, OnRaylet, on_cluster
from tests.chaos.losses.plan import OFTEN, STAGES, Loss, Step
from tests.chaos.nodes import Node
from tests.chaos.run import come_to_an_end
from tests.chaos.watcher import Watcher
from tests.chaos.world import CALM, VICTIM, Late, World
from tests.fakes.site import add_provider

BLOCKS = 280  # of the job of each step, which takes less than the time between two
LATENCY_SECS = 0.1
AT_A_TIME = 4  # requests of an extractor: twenty blocks a second
NOTICE_SECS = 8.0
STAGE_SECS = 40.0
UP_SECS = 120.0
RECOVERY_SECS = 40.0  # for processes that start while others do, on a machine of two cores
HALT_SECS = 120
TASK_BLOCKS = 64  # of the tasks that these jobs are made of, after the first ones of 16


@dataclass
class Told:
    """What came of one loss. ``again``: blocks that the step's job fetched a second time."""

    step: Step
    fired: dict[str, int] = field(default_factory=dict)
    again: int = 0
    recovered_secs: float | None = None
    calm: list[tuple[int, int]] = field(default_factory=list)
    late: list[str] = field(default_factory=list)


class Losses:
    """All steps in one world. The calm job lives through them; each step has a job of its own, which must complete."""

    def __init__(self, here: World, extractors: Extractors, watcher: Watcher) -> None:
        self._here = here
        self._extractors = extractors
        self._watcher = watcher
        self._datasets: dict[str, tuple[int, int]] = {}
        self.told: list[Told] = []
        self.problems: list[str] = []

    def go(self, steps: Sequence[Step], every_secs: float) -> None:
        """As many as there is time for, one each ``every_secs``, and a last look at everything."""
        here = self._here
        here.around.mine(BLOCKS)
        here.around.victim.latency = LATENCY_SECS
        line = f"http://127.0.0.1:{here.around.victim.port}/"
        add_provider(here.site, VICTIM, line, concurrent_request_limit=AT_A_TIME)
        here.until(here.all_up, UP_SECS, "all workers up")
        calm = here.deploy(CALM, CALM, 0, None)
        here.around.grow(True)
        began = time.monotonic()
        for step in steps:
            self._wait(began + step.number * every_secs - time.monotonic())
            if step.number and time.monotonic() - began > len(steps) * every_secs > 0:
                break  # on a busy machine they take longer
            self._one(step, calm)
        here.around.grow(False)
        here.until(lambda: here.covered(CALM) >= here.around.head, RECOVERY_SECS, f"{CALM} at the head")
        self._datasets[f"_/{CALM}"] = (0, here.around.head)
        self.problems += come_to_an_end(here, calm)
        self.problems += self._watcher.look(self._datasets, full=True)["problems"]

    def _one(self, step: Step, calm: Job) -> None:
        here, told, started = self._here, Told(step), time.monotonic()
        dataset = f"loss_{step.number}"
        try:
            self._lose(told, dataset, calm)
        except Late as late:
            told.late.append(str(late))
        self.told.append(told)
        self._datasets[f"_/{dataset}"] = (0, BLOCKS - 1)
        problems = self._watcher.look({f"_/{dataset}": (0, BLOCKS - 1)}, _story(told))["problems"]
        problems += [*here.nodes.bury(), *here.nodes.strange_ends()]
        facts = f"{told.again} blocks again, recovered in {told.recovered_secs} s, {time.monotonic() - started:.1f} s"
        print(f"loss {step.number}: {step}: {facts}", flush=True)
        for problem in problems:
            print(f"  VIOLATION: {problem}"[:1000], flush=True)
        self.problems += problems

    def _lose(self, told: Told, dataset: str, calm: Job) -> None:
        here, step = self._here, told.step
        here.until(lambda: here.all_up() and self._extractors.alive, UP_SECS, "all there")
        if step.stage and step.stage not in OFTEN:
            self._arm(step, *here.nodes.values())
        told.calm.append(self._of(calm))
        here.around.victim.fetched.clear()
        job = here.deploy(dataset, VICTIM, 0, BLOCKS - 1)
        here.until(lambda: here.status(job) != "SCHEDULED", STAGE_SECS, f"{dataset} begun")
        if step.loss.of_worker:
            self._lose_worker(told, job)
        else:
            self._lose_extractors(told)
        lost_at, head = time.monotonic(), here.around.head
        told.fired[step.loss] = 1
        here.until(lambda: here.covered(CALM) > head, RECOVERY_SECS, f"{CALM} goes on")
        told.recovered_secs = round(time.monotonic() - lost_at, 1)
        here.until(lambda: here.status(job) == "COMPLETED", 2 * RECOVERY_SECS, f"{dataset} complete")
        told.again = sum(times - 1 for times in Counter(here.around.victim.fetched).values())
        if not self._extractors.alive:
            self._extractors.renew()
        told.calm.append((self._of(calm)[0], told.calm[0][1]))  # it may change hands, which is an event

    def _lose_extractors(self, told: Told) -> None:
        """Once they have tasks."""
        here, extractors = self._here, self._extractors
        here.until(extractors.at_work, STAGE_SECS, "tasks where only extractors are")
        if told.step.loss.noticed:
            extractors.give_notice(NOTICE_SECS)
            self._wait(NOTICE_SECS)
        extractors.vanish()

    def _lose_worker(self, told: Told, job: Job) -> None:
        """The one that is at the stage; without one, that of the job, once it is at work."""
        here, step = self._here, told.step
        if step.stage is None or step.stage in OFTEN:
            here.until(lambda: len(here.around.victim.fetched) > BLOCKS // 5, STAGE_SECS, "blocks fetched")
            node = here.node_of(job)
            self._arm(step, node)
        if step.stage is not None:
            with self._away(here.node_of(job)) if step.stage.startswith("takeover") else nullcontext():
                node = here.until(lambda: self._halted(step.stage), STAGE_SECS, f"somebody at {step.stage}")
            told.fired[step.stage] = 1
        if step.loss.noticed:
            _ray(node).give_notice(NOTICE_SECS)
            self._wait(NOTICE_SECS)
        _ray(node).vanish()
        self._disarm()

    @contextmanager
    def _away(self, node: Node) -> Iterator[None]:
        """It vanishes, and comes back only afterwards: within seconds it would go on with its jobs itself."""
        gone = _ray(node)
        gone.vanish()
        gone.held = True
        try:
            yield
        finally:
            gone.held = False

    def _halted(self, stage: str | None) -> OnRaylet | None:
        """Whose process is held at the stage."""
        pids = [int(trace.read_text().split()[0]) for trace in self._here.fired.glob(f"{stage}.*")]
        for node in self._here.nodes.values():
            if any(process.pid in pids for process in node.processes):
                return _ray(node)
        return None

    def _arm(self, step: Step, *nodes: Node) -> None:
        for node in nodes:
            node.arms.write_text(f"{step.stage}=stop({HALT_SECS})@{step.hit}" if step.stage else "")

    def _disarm(self) -> None:
        for node in self._here.nodes.values():
            node.arms.unlink(missing_ok=True)
        for trace in self._here.fired.iterdir():
            trace.unlink()

    def _wait(self, secs: float) -> None:
        deadline = time.monotonic() + secs
        self._here.until(lambda: time.monotonic() >= deadline, secs + 1.0, "time passes")

    def _of(self, calm: Job) -> tuple[int, int]:
        ((events,),) = self._here.ask("select count(*) from job_events where job_id = %s", calm.id)
        return self._here.covered(CALM), int(events)


def _ray(node: Any) -> OnRaylet:
    assert isinstance(node, OnRaylet)
    return node


def _story(told: Told) -> Story:
    return Story(
        seed=told.step.number, injected=told.fired, recovered_secs=told.recovered_secs, within_secs=RECOVERY_SECS,
        calm=told.calm, late=told.late,
    )  # fmt: skip


def figures(losses: Losses, secs: float) -> dict[str, Any]:
    """The last line."""
    again = {loss.value: [told.again for told in losses.told if told.step.loss is loss] for loss in Loss}
    recovered = sorted(told.recovered_secs for told in losses.told if told.recovered_secs is not None)
    return {
        "losses": len(losses.told),
        "violations": len(losses.problems),
        "stages": sorted(stage for told in losses.told for stage in told.fired if stage in STAGES),
        "blocks_again": again,
        "tasks_again_with_notice": max(
            (round(told.again / TASK_BLOCKS, 2) for told in losses.told if told.step.loss.noticed), default=None
        ),
        "recovered_median": recovered[len(recovered) // 2] if recovered else None,
        "recovered_most": recovered[-1] if recovered else None,
        "secs": round(secs, 1),
    }


def run(steps: Sequence[Step], every_secs: float) -> int:
    """All of it; 1 if an invariant was violated, and then the directory with all logs stays."""
    started, violated = time.monotonic(), 1
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ampd-", dir="/tmp")))
        try:
            here, extractors = stack.enter_context(on_cluster(directory))
            losses = Losses(here, extractors, stack.enter_context(Watcher(here)))
            losses.go(steps, every_secs)
            here.keep = bool(losses.problems)
            violated = int(here.keep)
            print(json.dumps(figures(losses, time.monotonic() - started)), flush=True)
        except Exception:
            traceback.print_exc()
    return violated
