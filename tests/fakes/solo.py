"""Solo environments of tests: one that is a thread and costs nothing, and the end of real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ampd_ray.client.solo_lock import Sessions, only_one
from ampd_ray.client.solo_process import SoloProcess
from ampd_ray.errors import NodeInUse, SoloFailed
from tests.fakes.process import processes_in

UP_SECS = 30.0


class FakeProcess(SoloProcess):
    """An environment as a thread: the locks are real, and freed at its end as the kernel does it for a process."""

    def __init__(self, place: FakeEnvironments, directory: Path) -> None:
        self.serves = False
        self.code: int | None = None
        self.killed = False
        self._place = place
        self.thread = threading.Thread(target=self._serve, args=(directory,))

    def start(self) -> None:
        self.thread.start()

    @property
    def ended(self) -> bool:
        return self.code is not None

    def check(self) -> None:
        if self.ended:
            raise SoloFailed(f"exit code {self.code}")

    def was_second(self) -> bool:
        return self.code == NodeInUse.exit_code

    def kill(self) -> None:
        self.killed = True
        self._place.may_end.set()

    def _serve(self, directory: Path) -> None:
        code, sessions = 0, Sessions(directory)
        try:
            with only_one(directory):
                self.serves = not self._place.fails
                if self.serves:
                    sessions.wait_until_unused(lambda: self._place.at_work)
                self.serves = False
                self._place.may_end.wait(UP_SECS)
                code = 1 if self._place.fails else 0
        except NodeInUse as error:
            code = error.exit_code
        sessions.close()
        self.code = code


class FakeEnvironments:
    """What starts them in a directory, and what they find: whether a job is ``at_work``, whether they ``may_end``."""

    def __init__(self) -> None:
        self.started: list[FakeProcess] = []
        self.at_work = False
        self.fails = False
        self.may_end = threading.Event()
        self.may_end.set()

    def new(self, directory: Path) -> SoloProcess:
        self.started.append(FakeProcess(self, directory))
        return self.started[-1]

    def serving(self) -> list[FakeProcess]:
        return [each for each in self.started if each.serves]

    def live(self, directory: Path) -> bool:
        return bool(self.serving())

    def close(self) -> None:
        """Wait for their end, once the sessions have left."""
        self.at_work = False
        self.may_end.set()
        for each in self.started:
            each.thread.join(UP_SECS)
            assert not each.thread.is_alive()


def until(holds: Callable[[], object]) -> None:
    """Look again and again until ``holds``."""
    deadline = time.monotonic() + UP_SECS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextmanager
def nothing_left_in(directory: Path) -> Iterator[None]:
    """End the processes of the environments in ``directory`` after the block, also if a test fails there."""
    try:
        yield
    finally:
        for process in processes_in(directory):
            tree = [*process.children(recursive=True), process]
            for each in tree:
                if each.is_running():
                    each.kill()
            psutil.wait_procs(tree, UP_SECS)
