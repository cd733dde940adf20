"""That the end of a process is noticed: by the system's word, and without it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ampd_ray.actors import driver_watch
from ampd_ray.actors.driver_watch import Watched


def open_files() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


async def test_the_end_is_noticed_before_anybody_waits_for_it(child: subprocess.Popen[bytes]) -> None:
    watching = asyncio.create_task(driver_watch.ended(Watched.of(child.pid)))
    await asyncio.wait({watching}, timeout=0.05)
    assert not watching.done()
    child.kill()  # and it stays a zombie until the fixture waits for it
    await asyncio.wait_for(watching, 5)


@pytest.mark.parametrize("missing", [AttributeError, OSError])
async def test_where_the_system_has_no_word_for_it(
    child: subprocess.Popen[bytes], missing: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(pid: int) -> int:
        raise missing

    monkeypatch.setattr(os, "pidfd_open", absent)
    monkeypatch.setattr(driver_watch, "ASK_EVERY_SECS", 0.01)
    watching = asyncio.create_task(driver_watch.ended(Watched.of(child.pid)))
    await asyncio.wait({watching}, timeout=0.05)
    assert not watching.done()
    child.kill()
    child.wait()
    await asyncio.wait_for(watching, 5)


async def test_one_that_is_not_there_cannot_be_watched(child: subprocess.Popen[bytes]) -> None:
    watched = Watched.of(child.pid)
    child.kill()
    child.wait()
    with pytest.raises(ProcessLookupError):
        await driver_watch.ended(watched)


async def test_another_one_of_the_same_pid_is_not_watched(child: subprocess.Popen[bytes]) -> None:
    """As a process of another container has it."""
    here = Watched.of(child.pid)
    assert here.started is not None
    with pytest.raises(ProcessLookupError, match="another one"):
        await driver_watch.ended(Watched(child.pid, here.started - 1))


async def test_a_watch_that_is_given_up_leaves_nothing_open(child: subprocess.Popen[bytes]) -> None:
    before = open_files()
    watching = asyncio.create_task(driver_watch.ended(Watched.of(child.pid)))
    await asyncio.wait({watching}, timeout=0.01)
    watching.cancel()
    await asyncio.wait({watching})
    assert open_files() == before
