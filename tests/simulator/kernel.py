"""Time, and whose turn it is.

A task that is about to do something that others can see waits at a gate. Whenever no callback is ready, the scheduler
lets one task through, or moves the clock, or breaks something. Between two gates a task runs by itself, so a run
depends on nothing but those choices.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulator.loop import PROCESS, SimulatedLoop

if TYPE_CHECKING:
    from tests.simulator.process import Process

EPOCH = datetime(2100, 1, 1, tzinfo=UTC)  # far ahead: some columns are compared with the server's own clock
# What a node does all the time, whatever its jobs do.
BACKGROUND = frozenset(
    {
        "beat", "renew_node_lease", "candidates", "select_jobs", "lock_mine", "renew", "take_node_lease",
        "forget_segments", "forget_intents", "forget_leases", "idle", "report", "record_progress", "drain", "look_dead",
    }
)  # fmt: skip


class Vanished(BaseException):
    """The process that runs this code does not exist any more: no handler may do anything about it."""


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address. It passes ``credit`` gates without waiting."""

    number = 0
    credit = 0
    process: Process | None = None

    def __hash__(self) -> int:
        return self.number


@dataclass(frozen=True, slots=True)
class Parked:
    """A task that waits for its turn to do what ``label`` says."""

    task: NumberedTask
    label: str
    turn: asyncio.Future[None]

    @property
    def process(self) -> Process:
        assert self.task.process is not None
        return self.task.process


@dataclass(eq=False, slots=True)
class Pause:
    """Somebody stands still until a moment, or until somebody else has done what ``alarm`` says."""

    until: float
    alarm: str | None = None
    over: bool = False


class Kernel:
    """The clock, the gates and the trace of one run. ``on_idle`` makes something ready, or raises."""

    def __init__(self, seed: int, *, keep_trace: bool = False):
        self.rng = random.Random(seed)
        self.clock = 0.0
        self.gates = 0
        self.steps_of_jobs = 0  # the gates that are not those of beats and looks
        self.parked: dict[int, Parked] = {}
        self.pauses: list[Pause] = []
        self.hot: Collection[str] = ()  # where every task halts
        self.halted: list[Parked] = []  # there, since the scheduler looked last
        self.on_idle: Callable[[], None] = lambda: None
        self.lines: list[str] | None = [] if keep_trace else None
        self._now = (0.0, EPOCH.isoformat())
        self._hash = hashlib.blake2b(digest_size=8)
        self._numbers = itertools.count(1)
        self.loop = SimulatedLoop(lambda: self.clock, self._idle)
        self.loop.set_task_factory(self._make_task)  # type: ignore[arg-type]  # the stub knows no keywords

    @property
    def now(self) -> str:
        """The simulated time as Postgres reads it."""
        if self._now[0] != self.clock:
            self._now = (self.clock, (EPOCH + timedelta(seconds=self.clock)).isoformat())
        return self._now[1]

    @property
    def digest(self) -> str:
        """What identifies everything that happened so far."""
        return self._hash.hexdigest()

    def note(self, what: str) -> None:
        """One line of the trace, under the task that runs."""
        line = f"{self.clock:9.3f} {self._who():12} {what}"
        self._hash.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def _who(self) -> str:
        process = PROCESS.get()
        if process is None:
            return "-"
        task = asyncio.current_task(self.loop)
        return f"{process.name}.{task.number}" if isinstance(task, NumberedTask) else process.name

    def _idle(self) -> None:
        self.on_idle()

    # -- gates ----------------------------------------------------------------------------------------------------

    async def gate(self, label: str) -> None:
        """Wait for the turn to do what ``label`` says; Vanished if the process has died."""
        task = asyncio.current_task()
        assert isinstance(task, NumberedTask), task
        self.gates += 1
        self.steps_of_jobs += label not in BACKGROUND
        if (process := task.process) is None:
            return
        if process.gone:
            raise Vanished
        hot = label in self.hot
        if self._sets_off(label) or hot:
            task.credit = 0
        if task.credit > 0:
            task.credit -= 1
            return
        turn = self.loop.create_future()
        parked = self.parked[task.number] = Parked(task, label, turn)
        if hot:
            self.halted.append(parked)
        try:
            await turn
        finally:
            del self.parked[task.number]
        if process.gone:
            raise Vanished

    def pause(self, secs: float, alarm: str | None) -> Pause:
        """Somebody stands still."""
        pause = Pause(self.clock + secs, alarm)
        self.pauses.append(pause)
        return pause

    def end_pauses(self) -> None:
        """Those whose time has come are over."""
        for pause in self.pauses:
            pause.over = pause.over or pause.until <= self.clock
        self.pauses = [pause for pause in self.pauses if not pause.over]

    def _sets_off(self, label: str) -> bool:
        """Whether somebody waits for just this; whoever is about to do it halts."""
        found = [pause for pause in self.pauses if pause.alarm == label]
        for pause in found:
            pause.until = self.clock
        return bool(found)

    def release(self, parked: Parked, credit: int) -> None:
        """Let a task through its gate, and the next ``credit`` ones."""
        parked.task.credit = credit
        if not parked.turn.done():
            parked.turn.set_result(None)

    def tick(self, least: float) -> None:
        """Move the clock to the next timer, and at least ``least`` seconds."""
        self.clock = max(self.clock + least, self.loop.next_timer() or 0.0)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def spawn(self, process: Process | None, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start ``work`` as a task of a process."""
        context = copy_context()
        context.run(PROCESS.set, process)
        return self.loop.create_task(work, context=context)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> NumberedTask:
        task = NumberedTask(work, loop=loop, context=context)
        task.number = next(self._numbers)
        process = task.process = (context or copy_context()).get(PROCESS)
        if process is not None:
            process.tasks.add(task)
            task.add_done_callback(process.tasks.discard)
        return task
