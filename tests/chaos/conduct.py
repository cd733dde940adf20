"""Carries one schedule out, in four movements, and measures what the checker cannot see from the rows.

A job of the schedule's own begins, and alone is disturbed: others must not notice. Then the failpoints are armed and
the outside faults come and go. When all have happened, the job is completed, and everybody has to recover. At last the
chain stands still, so that what is there can be compared with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ampd_ray.client.job import Job
from tests.chaos.check.story import Story
from tests.chaos.faults import KINDS, Failpoints, Injection
from tests.chaos.plan import STOP_SECS, OfJob, Schedule
from tests.chaos.world import CALM, VICTIM, Late, World

BACK, AHEAD = 60, 100  # blocks of a schedule's own job, below and above the head
DISTURBED_SECS = 2.0
AT_REST_SECS = 30.0
FIRED_SECS = 40.0
RECOVERY_SECS = 20.0
UP_SECS = 120.0
ENDED = ("COMPLETED", "STOPPED", "ERROR", "FATAL")


@dataclass
class Told:
    """What came of a schedule. ``last``: the highest block that its job was asked for."""

    schedule: Schedule
    dataset: str = ""
    first: int = 0
    last: int = 0
    injected: dict[str, int] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    recovered_secs: float | None = None
    calm: list[tuple[int, int]] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def story(self) -> Story:
        """For the checker."""
        injected = self.injected | self.points
        return Story(
            seed=self.schedule.seed, injected=injected, recovered_secs=self.recovered_secs,
            within_secs=RECOVERY_SECS, calm=self.calm, late=self.late,
        )  # fmt: skip


class Conductor:
    """Conducts schedules in one world. ``calm`` is the job that only suffers what its worker suffers."""

    def __init__(self, world: World, calm: Job) -> None:
        self._world = world
        self._calm = calm

    def conduct(self, schedule: Schedule) -> Told:
        """All four movements; what did not come in time is told, not raised."""
        told, points = Told(schedule), Failpoints(self._world, schedule.arms)
        try:
            self._in_time(told, lambda: self._play(told, points))
        finally:
            told.points = points.counts()
            points.disarm()
        self._in_time(told, self._come_to_rest)
        return told

    def _play(self, told: Told, points: Failpoints) -> None:
        job = self._begin(told)
        self._disturb(told, job)
        self._await_all()
        points.arm()
        self._reorganise(told)
        if told.schedule.of_job is OfJob.STOP_RESUME:
            job = self._deploy(told)
        over = self._come_and_go(told)
        self._complete(told, points, job, over)

    def _in_time(self, told: Told, movement: Callable[[], None]) -> None:
        try:
            movement()
        except Late as late:
            told.late.append(str(late))

    # -- the job begins ---------------------------------------------------------------------------------------------

    def _begin(self, told: Told) -> Job:
        world = self._world
        world.around.grow(True)
        told.dataset = f"seed_{told.schedule.seed}"
        told.first = max(0, world.around.head - BACK)
        told.last = world.around.head + AHEAD
        job = self._deploy(told)
        world.until(lambda: world.covered(told.dataset) >= told.first, AT_REST_SECS, f"{told.dataset} begun")
        return job

    def _deploy(self, told: Told) -> Job:
        return self._world.deploy(told.dataset, VICTIM, told.first, told.last)

    def _disturb(self, told: Told, job: Job) -> None:
        """The fault of one job only, and nothing else: the other one goes on."""
        world, fault = self._world, told.schedule.of_job
        told.calm.append(self._of_calm())
        if fault is OfJob.STOP_RESUME:
            job.stop()
            world.until(lambda: world.status(job) == "STOPPED", AT_REST_SECS, f"{told.dataset} stopped")
            told.injected[fault] = 1
        else:
            fired = world.around.victim.fired
            before = fired[fault]
            world.around.disturb_rpc(fault)
            self._pass(DISTURBED_SECS)
            world.until(lambda: fired[fault] > before, AT_REST_SECS, f"{fault!r} felt")
            told.injected[fault] = fired[fault] - before
        block, _ = told.calm[0]
        world.until(lambda: world.covered(CALM) > block, AT_REST_SECS, f"{CALM} goes on beside {fault!r}")
        told.calm.append(self._of_calm())
        world.around.disturb_rpc(None)

    def _of_calm(self) -> tuple[int, int]:
        ((events,),) = self._world.ask("select count(*) from job_events where job_id = %s", self._calm.id)
        return self._world.covered(CALM), int(events)

    def _await_all(self) -> None:
        """Those that were replaced may still be starting; the chain waits for them, or the job would be complete."""
        self._world.around.grow(False)
        self._world.until(self._world.all_up, UP_SECS, "all workers up")
        self._world.around.grow(True)

    # -- faults come and go -----------------------------------------------------------------------------------------

    def _reorganise(self, told: Told) -> None:
        """Replace blocks that are committed."""
        world, depth = self._world, told.schedule.reorg
        if depth:
            world.around.grow(False)
            world.until(lambda: world.covered(CALM) >= world.around.head, AT_REST_SECS, f"{CALM} at the head")
            world.around.reorg(depth)
            world.around.grow(True)

    def _come_and_go(self, told: Told) -> float:
        """All faults, each at its time; when the last one was over, as ``time.time`` counts."""
        started, over = time.monotonic(), time.time()
        waiting = sorted(told.schedule.faults, key=lambda fault: fault.at)
        active: list[Injection] = []
        try:
            while waiting or active:
                for injection in active:
                    if all(each.leaves_room for each in active if each is not injection):
                        injection.tend()
                room = all(each.leaves_room for each in active)
                if waiting and room and time.monotonic() - started >= waiting[0].at:
                    fault = waiting.pop(0)
                    injection = KINDS[fault.kind](self._world, fault, self._calm)
                    injection.aim()
                    active.append(injection)
                    injection.start()
                for injection in [each for each in active if each.over]:
                    active.remove(injection)
                    injection.end()
                    told.injected[injection.kind] = injection.fired
                    over = time.time()
                self._pass(0.0)
        finally:
            for injection in active:
                injection.end()
        return over

    def _complete(self, told: Told, points: Failpoints, job: Job, over: float) -> None:
        """Give the job its last blocks; wait for all failpoints, and measure how long things take to go on."""
        world = self._world
        world.around.mine(max(0, told.last - world.around.head))
        world.until(lambda: points.all_fired, FIRED_SECS, f"failpoints {points.counts()} fired")
        stops = any(arm.action == "stop" for arm in told.schedule.arms)
        over = max(over, points.last() + (STOP_SECS if stops else 0.0))
        world.until(lambda: time.time() > over, STOP_SECS + 1, "the last one over")
        if not world.any_up():  # all of them had to be replaced, which takes as long as it takes
            world.until(world.any_up, UP_SECS, "a worker up")
            over = time.time()
        head = world.around.head
        world.until(lambda: world.covered(CALM) > head, 2 * RECOVERY_SECS, f"{CALM} goes on")
        told.recovered_secs = round(time.time() - over, 2)
        world.until(lambda: world.status(job) in ENDED, 2 * RECOVERY_SECS, f"{told.dataset} at its end")
        world.until(lambda: world.status(job) == "COMPLETED", RECOVERY_SECS, f"{told.dataset} complete")

    def _come_to_rest(self) -> None:
        world = self._world
        world.around.disturb_rpc(None)
        world.around.grow(False)
        world.until(lambda: world.covered(CALM) >= world.around.head, AT_REST_SECS, f"{CALM} at the head")
        world.until(lambda: world.is_one_chain(CALM), AT_REST_SECS, f"{CALM} mended")

    def _pass(self, secs: float) -> None:
        """Let time go by, at least a moment of it."""
        deadline = time.monotonic() + secs
        self._world.until(lambda: time.monotonic() >= deadline, secs + 1.0, "time passes")
        time.sleep(0.02)
