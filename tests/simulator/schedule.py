"""The seeded choice of what happens next: who takes a step, how far, how time goes by, and when something breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulator.breakage import Breakage
from tests.simulator.kernel import Parked
from tests.simulator.moments import HOT
from tests.simulator.wire import Waiting

if TYPE_CHECKING:
    from tests.simulator.world import World

FAULT = 0.04  # of all choices break something, while it storms
TICK = 0.05  # of all choices move the clock though somebody could take a step
STEPS_MAX = 20_000
GATES_MAX = 500  # of a storm
WHEN_DONE = 0.02  # of all choices end the storm then
CREDITS = (0, 0, 0, 1, 1, 3, 8, 20)  # gates that a task may pass after the one at which it stands
CALM_CREDIT = 30
TICKS_SECS = (0.2, 0.5, 0.5, 1.0)


class Stuck(Exception):
    """The run does not come to an end."""


class Schedule:
    """Chooses for ``world``. While it ``storms``, anything may break; after that nothing does."""

    def __init__(self, world: World):
        self.storms = True
        self.steps = 0
        self.calm = world.kernel.loop.create_future()
        self._world = world
        self._kernel = world.kernel
        self._rng = world.kernel.rng
        self._breakage = Breakage(world)
        world.kernel.hot = HOT

    def __call__(self) -> None:
        """Make something ready: nothing is."""
        self.steps += 1
        if self._world.checker.found is not None:
            raise self._world.checker.found
        if self.steps > STEPS_MAX:
            raise Stuck(f"{STEPS_MAX} steps, and no end; parked: {[p.label for p in self._kernel.parked.values()]}")
        self._breakage.wake()
        if self._bury():
            return
        if not self.storms:
            self._go_on()
        elif self._over():
            self._calm_down()
        elif not self._breakage.at_the_worst_moment(self._can):
            if self._rng.random() < FAULT:
                self._breakage.anywhere(self._can)
            else:
                self._go_on()

    def _bury(self) -> bool:
        """Let what is left of killed processes end."""
        waiting = self._world.locks.waiting
        for each in waiting.values():
            process = each.task.process
            if each.over and process is not None and process.gone and not each.turn.done():
                each.turn.set_result(None)
                return True
        busy = {each.task for each in waiting.values()}
        left = [process.bury(busy) for process in self._world.processes if process.gone]
        return any(left)

    def _over(self) -> bool:
        """The storm has lasted long enough, or the job is done, and may stay so."""
        done = self._world.checker.status == "COMPLETED" and self._rng.random() < WHEN_DONE
        return done or self._kernel.steps_of_jobs > self._world.plan.storm or self._kernel.gates > GATES_MAX

    def _calm_down(self) -> None:
        """Nothing breaks any more; what was stopped goes on."""
        self.storms = self._world.faults.on = False
        self._kernel.hot = ()
        self._breakage.end()
        self._kernel.note("it is calm")
        self.calm.set_result(None)

    def _go_on(self) -> None:
        parked = [each for _, each in sorted(self._kernel.parked.items()) if self._can(each)]
        answered = [each for each in self._world.locks.waiting.values() if each.over and self._can(each)]
        if not (parked or answered) or (self.storms and self._rng.random() < TICK):
            self._breakage.pass_time(self._rng.choice(TICKS_SECS))
        elif not parked or (answered and self._rng.random() < 0.5):
            if not answered[0].turn.done():
                answered[0].turn.set_result(None)
        else:
            credit = self._rng.choice(CREDITS) if self.storms else CALM_CREDIT
            (chosen,) = self._rng.choices(parked, [self._breakage.weight(each) for each in parked])
            self._kernel.release(chosen, credit)

    def _can(self, each: Parked | Waiting) -> bool:
        process = each.task.process
        return process is None or (process.runs and not self._breakage.stalls(each.task.number))
