"""A session's part in a solo environment: it joins the one that runs, or starts it, and leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ampd_ray.client.solo_lock import Sessions, runs_in
from ampd_ray.client.solo_process import LOG_NAME, SoloProcess
from ampd_ray.errors import SoloFailed

READY_WITHIN_SECS = 120.0
ENDS_WITHIN_SECS = 60.0
JOIN_WITHIN_SECS = 0.5
POLL_SECS = 0.1


class SoloSession:
    """One session of the environment in ``directory``, which stays there until the last of them has left."""

    def __init__(self, directory: Path, new: Callable[[Path], SoloProcess] = SoloProcess) -> None:
        self.directory = directory
        self._new = new
        self._sessions = Sessions(directory)
        self._process: SoloProcess | None = None  # if this session started it
        self._owner = os.getpid()

    def begin(self, live: Callable[[Path], bool]) -> None:
        """Wait until the environment is ``live``, and start it if none runs. Raises ``SoloFailed``, ``ConfigError``."""
        self._sessions.join()  # first: what is found running from now on stays
        deadline = time.monotonic() + READY_WITHIN_SECS
        while not live(self.directory):
            if self._process is not None:
                self.check()
            elif not runs_in(self.directory):
                self._process = self._new(self.directory)
                self._process.start()
            if time.monotonic() > deadline:
                where = f"in {self.directory} within {READY_WITHIN_SECS:.0f} s"
                raise SoloFailed(f"no worker came up {where}; see {LOG_NAME} there")
            time.sleep(POLL_SECS)

    def join(self) -> bool:
        """Use the environment that runs; False if it is about to end."""
        return self._sessions.try_join(JOIN_WITHIN_SECS)

    def check(self) -> None:
        """Raise ``SoloFailed`` if the environment has ended."""
        if self._process is not None and self._process.was_second() and runs_in(self.directory):
            self._process = None  # somebody else has started one in the same moment
        if self._process is not None:
            self._process.check()
        elif not runs_in(self.directory):
            raise SoloFailed(f"the solo environment in {self.directory} has ended; {LOG_NAME} there may say why")

    def leave(self) -> None:
        """Leave it; the session that started it waits for its end, unless it stays for a job or another session."""
        if os.getpid() != self._owner:
            return  # the locks are those of the process that forked this one
        self._sessions.leave()
        try:
            if self._process is not None:
                self._see_off(self._process)
        finally:
            self._sessions.close()

    def _see_off(self, process: SoloProcess) -> None:
        deadline = time.monotonic() + ENDS_WITHIN_SECS
        while not process.ended and not self._sessions.kept():
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(POLL_SECS)
