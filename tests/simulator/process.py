"""A process that can be killed at any step, or stopped for longer than its leases live."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from tests.simulator.kernel import Kernel, NumberedTask, Pause, Vanished

ROUNDS_MAX = 50


class Process:
    """Some tasks that live and die together. ``node_id``: None for what is no worker.

    ``silent_end``: the machine lost its power, so that the server does not hear of the end of its sessions.
    """

    def __init__(self, kernel: Kernel, name: str, node_id: str | None = None):
        self.kernel = kernel
        self.name = name
        self.node_id = node_id
        self.incarnation: UUID | None = None  # of the node that it is
        self.tasks: set[NumberedTask] = set()
        self.gone = False
        self.silent_end = False
        self.pause: Pause | None = None
        self.settles = False  # a job of it has ended, and its row is to say so
        self._deferred: list[Callable[[], object]] = []
        self._rounds = 0

    @property
    def runs(self) -> bool:
        """Whether it can do something now."""
        return not self.gone and self.pause is None

    def when_awake(self, call: Callable[[], object]) -> None:
        """Call now, or when the process goes on; never if it is gone."""
        if self.pause is not None:
            self._deferred.append(call)
        elif not self.gone:
            call()

    def stop(self, pause: Pause) -> None:
        """SIGSTOP: nothing happens here until ``go_on``."""
        self.pause = pause

    def go_on(self) -> None:
        """SIGCONT: everything goes on just where it was."""
        self.pause = None
        deferred, self._deferred = self._deferred, []
        for call in deferred:
            call()

    def kill(self) -> None:
        """SIGKILL. No code of it does anything to the world any more; ``bury`` ends what is left of its tasks."""
        self.gone = True
        self.pause = None
        self._deferred.clear()
        for parked in list(self.kernel.parked.values()):
            if parked.task.process is self and not parked.turn.done():
                parked.turn.set_exception(Vanished())

    def bury(self, waiting: set[NumberedTask]) -> bool:
        """Cancel what is left, but for those in the middle of a statement; True if there was something."""
        left = sorted((task for task in self.tasks if task not in waiting), key=hash)
        self._rounds += 1
        if not left or self._rounds > ROUNDS_MAX:
            return False
        for task in left:
            task.cancel()
        return True
