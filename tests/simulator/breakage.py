"""What goes wrong with processes, and when: rather in the worst moments than anywhere.

A kill or a pause between the effects of a protocol is what it must bear; and a pause is worst if it ends just when
somebody else relies on its owner being gone. So tasks halt at ``HOT`` points, and pauses end by an alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.simulator.kernel import BACKGROUND, Parked, Pause
from tests.simulator.moments import ANY, HOT, KINDS

if TYPE_CHECKING:
    from tests.simulator.node import Node
    from tests.simulator.process import Process
    from tests.simulator.world import World

PAUSES_SECS: Final = (1.0, 3.0, 6.0, 8.0, 12.0, 20.0)
ALARM_SECS: Final = 45.0  # a pause that waits for an alarm ends then
LOCK: Final = 0.5  # of all lock waits end whenever time passes
NODES_MAX: Final = 3
JOBS_FIRST: Final = 4  # times as often as beats and looks
EAGER: Final = 20
EAGER_GATES: Final = 40  # so many gates are passed by then
SPARED: Final = 0.2  # of the disturbances happen while a pause waits for its alarm, so that this comes


class Breakage:
    """Breaks things of ``world``, and knows what is broken."""

    def __init__(self, world: World):
        self._world = world
        self._kernel = world.kernel
        self._rng = world.kernel.rng
        self._counts = world.faults.counts
        self._stalled: dict[int, Pause] = {}
        self._eager: dict[Process, int] = {}
        self._kinds: dict[Callable[[], None], float] = {
            self._restart: 2, self._start: 0.5, self._drain: 0.7, self._stop_job: 0.5, self._schedule_job: 1,
            self._retry_job: 0.7, self._outage: 0.5, self._reorg: 1, self._leap: 0.4, self._sweep: 6,
        }  # fmt: skip

    def stalls(self, task: int) -> bool:
        """Whether this task stands still though its process runs."""
        return task in self._stalled

    def weight(self, task: Parked) -> float:
        """How much rather this task takes the next step than a beat or a look: what an alarm woke is in a hurry."""
        if self._eager.get(task.process, 0) > self._kernel.gates:
            return EAGER
        return 1 if task.label in BACKGROUND else JOBS_FIRST

    # -- when ---------------------------------------------------------------------------------------------------------

    def at_the_worst_moment(self, can: Callable[[Parked], bool]) -> bool:
        """Perhaps break something where a task has just halted; whether anything was."""
        halted, self._kernel.halted = self._kernel.halted, []
        for each in halted:
            probability, alarms = HOT[each.label]
            if any(pause.alarm for pause in self._kernel.pauses):
                probability *= SPARED
            if not each.turn.done() and can(each) and self._rng.random() < probability:
                self._disturb(each, alarms)
                self._keep_one_node()
                return True
        return False

    def anywhere(self, can: Callable[[Parked], bool]) -> None:
        """Break something."""
        if self._rng.random() < 0.3:
            tasks = [each for _, each in sorted(self._kernel.parked.items()) if can(each) and each.process.node_id]
            if tasks:
                self._disturb(self._rng.choice(tasks), ANY)
        else:
            kinds = list(self._kinds)
            (kind,) = self._rng.choices(kinds, [self._kinds[each] for each in kinds])
            kind()
        self._keep_one_node()

    def _keep_one_node(self) -> None:
        """There is always one that can take over."""
        if not any(node.process.runs and not node.draining for node in self._world.nodes):
            self._start()

    def pass_time(self, least: float) -> None:
        """The clock moves; what has waited for long enough waits no more."""
        self._kernel.tick(least)
        for wire, waiting in list(self._world.locks.waiting.items()):
            if not waiting.over and self._rng.random() < LOCK:
                self._kernel.note("a lock takes too long")
                self._counts["lock_timeouts"] += 1
                self._world.locks.give_up(wire)
        self._world.pool.tick()
        self._ask_again()

    def _ask_again(self) -> None:
        """Somebody wants the job done that has ended before its time."""
        if self._world.checker.status in ("STOPPED", "ERROR", "FATAL") and self._rng.random() < 0.2:
            self._schedule_job()

    def wake(self) -> None:
        """What stood still for long enough goes on."""
        if self._kernel.pauses:
            self._kernel.end_pauses()
            self._go_on(lambda pause: pause.over)

    def end(self) -> None:
        """Everything goes on."""
        self._go_on(lambda _: True)

    def _go_on(self, over: Callable[[Pause], bool]) -> None:
        for process in self._world.processes:
            if process.pause is not None and over(process.pause):
                self._kernel.note(f"{process.name} goes on")
                self._eager[process] = self._kernel.gates + EAGER_GATES
                process.go_on()
        self._stalled = {task: pause for task, pause in self._stalled.items() if not over(pause)}

    # -- one task, or its process -------------------------------------------------------------------------------------

    def _disturb(self, task: Parked, alarms: tuple[str, ...]) -> None:
        alarm = self._rng.choice(alarms) if self._rng.random() < 0.7 else None
        secs = self._rng.choice(PAUSES_SECS) if alarm is None else ALARM_SECS
        self._kernel.note(f"{task.process.name}.{task.task.number}, before {task.label}, until {alarm or secs}:")
        writer = next((w for node in self._world.nodes for w in node.writers.busy() if w.process is task.process), None)
        kind = self._rng.choice(KINDS.get(task.label, ("kill", "stop", "stop", "stall", "stall", "lose", "lose")))
        if kind == "kill":
            self._kill(task.process)
        elif kind == "stall":
            self._kernel.note("stalls")
            self._counts["stalls"] += 1
            self._stalled[task.task.number] = self._kernel.pause(secs, alarm)
        elif kind == "lose" and writer is not None:
            self._kernel.note("is lost")
            self._counts["lost_writers"] += 1
            writer.lose()
            task.process.stop(self._kernel.pause(secs, alarm))
        else:
            self._stop(task.process, self._kernel.pause(secs, alarm))

    def _kill(self, process: Process) -> None:
        """A writer dies, or a node, whose writers may live on for a while."""
        self._kernel.note("is killed")
        self._counts["kills"] += 1
        process.silent_end = self._rng.random() < 0.3
        process.kill()
        for writer in self._writers_of(process):
            writer.silent_end = process.silent_end
            writer.kill()

    def _stop(self, process: Process, pause: Pause) -> None:
        """A writer, or a node, stands still for a while; it may be started anew meanwhile."""
        self._kernel.note("stops")
        self._counts["pauses"] += 1
        process.stop(pause)
        for writer in self._writers_of(process):
            if writer.runs:
                writer.stop(pause)
        for node in self._world.nodes:
            if node.process is process and self._rng.random() < 0.3:
                self._counts["restarts"] += 1
                self._world.start_node(node.node_id)
                return

    def _writers_of(self, process: Process) -> list[Process]:
        """Those writers of a node that share its fate."""
        return [
            writer.process
            for node in self._world.nodes
            if node.process is process
            for writer in node.writers.all
            if self._rng.random() < 0.5
        ]

    # -- everything else ----------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        """A node whose process died, or does not move, is started again."""
        lost = [node.node_id for node in self._world.nodes if not node.process.runs]
        if lost:
            self._counts["restarts"] += 1
            self._world.start_node(self._rng.choice(lost))

    def _start(self) -> None:
        if sum(node.process.runs for node in self._world.nodes) < NODES_MAX:
            self._world.start_node(f"n{len({node.node_id for node in self._world.nodes}) + 1}")

    def _drain(self) -> None:
        if (node := self._some_node()) is not None and not node.draining:
            self._kernel.note(f"{node.name} drains")
            self._counts["drains"] += 1
            node.drain()

    def _stop_job(self) -> None:
        self._counts["stops"] += 1
        self._world.control.order_stop()
        self._notify()

    def _schedule_job(self) -> None:
        self._world.control.order_schedule(self._rng.choice(self._world.nodes).node_id)
        self._notify()

    def _retry_job(self) -> None:
        self._world.control.order_retry(self._rng.choice(self._world.nodes).node_id)
        self._notify()

    def _notify(self) -> None:
        """Whoever runs now may hear of it, in good time or too early."""
        for node in self._world.nodes:
            if node.process.runs and self._rng.random() < 0.7:
                node.notified(self._world.control.job_id)

    def _outage(self) -> None:
        self._kernel.note("Postgres restarts")
        self._counts["outages"] += 1
        self._world.pool.lose_all()

    def _reorg(self) -> None:
        if not self._world.chain.reorganised:
            self._kernel.note(f"reorg from {self._world.chain.fork}")
            self._counts["reorgs"] += 1
            self._world.chain.reorganised = True

    def _leap(self) -> None:
        """Time goes by at once."""
        self.pass_time(self._rng.choice((5.0, 15.0, 70.0)))

    def _sweep(self) -> None:
        if (node := self._some_node()) is not None:
            self._counts["sweeps"] += 1
            node.sweep()

    def _some_node(self) -> Node | None:
        running = [node for node in self._world.nodes if node.process.runs]
        return self._rng.choice(running) if running else None
