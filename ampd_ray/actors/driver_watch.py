"""Notices at once that another process of this machine has ended."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

ASK_EVERY_SECS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Watched:
    """A process; when it ``started``, in clock ticks since the boot, tells it from others. None: nobody says when."""

    pid: int
    started: int | None

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has this pid here and now."""
        try:
            facts = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return cls(pid, None)
        return cls(pid, int(facts[19]))


async def ended(process: Watched) -> None:
    """Return when ``process`` has ended; raises ProcessLookupError if it is not here to begin with.

    In a container of its own it may have the pid of another process here. Linux tells of an end at once, also if nobody
    has waited for the process; elsewhere it is asked for twice a second.
    """
    pid = process.pid
    os.kill(pid, 0)
    if Watched.of(pid) != process:
        raise ProcessLookupError(f"process {pid} is another one here")
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # another system, or an old kernel
        await _ask(pid)
    else:
        await _readable(handle)


async def _readable(handle: int) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def _ask(pid: int) -> None:
    while True:
        await asyncio.sleep(ASK_EVERY_SECS)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
