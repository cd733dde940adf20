"""Who is in the directory of a solo environment: kernel locks, which a killed process holds no more.

``solo.lock`` is the environment's: one per directory. ``sessions.lock`` is shared by the sessions that use it. An
environment that ends by itself takes the latter alone and keeps it until its process is gone. So a session that is
there before it looks for an environment finds one that stays, or waits for the end of the old one and starts another.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ampd_ray.errors import ConfigError, NodeInUse, SoloFailed

LOCK_NAME: Final = "solo.lock"
SESSIONS_NAME: Final = "sessions.lock"
# Whoever looks whether an environment runs, or whether a session is there, holds the lock for that moment.
PATIENCE_SECS = 1.0
POLL_SECS = 0.05
ENDS_WITHIN_SECS = 90.0
LOOK_EVERY_SECS = 0.25
ASK_EVERY_SECS = 1.0


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Be the solo environment of ``directory``, which is made; ``NodeInUse`` if there is one, ``ConfigError``."""
    lock = _open(directory, LOCK_NAME)
    try:
        if not _take(lock, fcntl.LOCK_EX, PATIENCE_SECS):
            raise NodeInUse(
                f"a solo environment runs in {directory} already (process {running_process(directory) or 'unknown'}). "
                "Use that one: other commands find it with --amp-dir. Or end it first, with `ampd solo --stop`, or "
                "take another directory."
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def runs_in(directory: Path) -> bool:
    """True while a solo environment of this machine lives in ``directory``, or starts or ends there."""
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _take(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def running_process(directory: Path) -> int | None:
    """The process of the solo environment that lives in ``directory``; None if there is none."""
    if not runs_in(directory):
        return None
    pid = (directory / LOCK_NAME).read_text(errors="replace")
    return int(pid) if pid.isdecimal() else None


class Sessions:
    """The sessions of the environment in ``directory``, as one of them or the environment itself sees them.

    What is in the file is the environment's word, since the last session left, that it stays for a job.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = _open(directory, SESSIONS_NAME)

    # -- for a session --------------------------------------------------------------------------------------------

    def join(self, patience_secs: float = ENDS_WITHIN_SECS) -> None:
        """Be one of them; waits while an environment ends here. Raises ``SoloFailed`` if that takes too long."""
        if not self.try_join(patience_secs):
            pid = running_process(self._directory)
            raise SoloFailed(
                f"the solo environment in {self._directory} (process {pid or 'unknown'}) has been ending for "
                f"{patience_secs:.0f} s. To end it at once: ampd solo --stop"
            )

    def try_join(self, patience_secs: float) -> bool:
        """The same; False if an environment takes longer to end."""
        return _take(self._lock, fcntl.LOCK_SH, patience_secs)

    def leave(self) -> None:
        """Be none of them. Whether the environment stays, :meth:`kept` says a moment later."""
        os.ftruncate(self._lock, 0)
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def kept(self) -> bool:
        """After ``leave``: True if it stays, for a job or for other sessions; False if it ends, or has not looked."""
        if os.fstat(self._lock).st_size:
            return True
        nobody = _take(self._lock, fcntl.LOCK_EX)
        others = not nobody and _take(self._lock, fcntl.LOCK_SH)
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return others

    def close(self) -> None:
        """Let go of the file, and of the lock with it."""
        os.close(self._lock)

    # -- for the environment --------------------------------------------------------------------------------------

    def wait_until_unused(self, at_work: Callable[[], bool]) -> None:
        """Return when there are no sessions and no job is ``at_work``.

        From then on sessions that come wait for the end of this process: the lock is its own until the kernel frees it.
        """
        while True:
            pause = LOOK_EVERY_SECS
            if _take(self._lock, fcntl.LOCK_EX):
                if not at_work():
                    return
                os.pwrite(self._lock, b"a job is at work\n", 0)
                fcntl.flock(self._lock, fcntl.LOCK_UN)
                pause = ASK_EVERY_SECS
            time.sleep(pause)


def _open(directory: Path, name: str) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"a solo environment cannot use {directory}: {error.strerror}") from error


def _take(lock: int, kind: int, patience_secs: float = 0.0) -> bool:
    deadline = time.monotonic() + patience_secs
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECS)
        else:
            return True
