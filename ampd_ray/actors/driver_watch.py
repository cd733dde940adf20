"""Notices at once that another process of this machine has ended."""

from __future__ import annotations

import asyncio
import os
from typing import Final

ASK_EVERY_SECS: Final = 0.5


async def ended(pid: int) -> None:
    """Return when process ``pid`` has ended; raises ProcessLookupError if there is none to begin with.

    Linux says so at once, also of a process that nobody has waited for; elsewhere it is asked for twice a second.
    """
    os.kill(pid, 0)
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
