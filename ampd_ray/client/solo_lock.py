"""One solo environment per directory: a kernel lock that a killed one holds no more."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ampd_ray.errors import ConfigError, NodeInUse

LOCK_NAME = "solo.lock"
# Whoever looks whether an environment runs holds the lock for that moment.
PATIENCE_SECS = 1.0
POLL_SECS = 0.05


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Be the solo environment of ``directory``, which is made; ``NodeInUse`` if there is one, ``ConfigError``."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"a solo environment cannot use {directory}: {error.strerror}") from error
    try:
        if not _take(lock, PATIENCE_SECS):
            raise NodeInUse(
                f"a solo environment runs in {directory} already (process {_holder(lock)}). Use that one: other "
                "commands find it with --amp-dir. Or stop it first, or take another directory."
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def runs_in(directory: Path) -> bool:
    """True while a solo environment of this machine lives in ``directory``, or starts there."""
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _take(lock, 0.0)
    finally:
        os.close(lock)


def _take(lock: int, patience_secs: float) -> bool:
    deadline = time.monotonic() + patience_secs
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECS)
        else:
            return True


def _holder(lock: int) -> str:
    return os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
