"""Named points at which a test, or an operator who wants to see it, makes a process fail on purpose.

``AMPD_RAY_FAILPOINTS`` arms them, ``POINT=ACTION[(SECS)][@HIT][*TIMES]`` each, separated by semicolons::

    AMPD_RAY_FAILPOINTS="published=kill; planned=stop(6); mid-file=delay(0.5)@3*10"

``kill`` ends the process with SIGKILL, ``stop`` halts it with SIGSTOP for SECS seconds, ``raise`` raises
:class:`FailpointError`, ``delay`` waits. HIT is the first hit of a process at which the point acts (1), TIMES how
often it acts in all (1). ``@FILE`` in place of a list names a file to be read at each hit, so that a process that
runs can be armed and disarmed.

``AMPD_RAY_FAILPOINTS_DIR`` names a directory in which each act leaves a file ``POINT.0001`` *before* it happens: the
count of what fired, and what makes TIMES hold across processes, earlier ones included. Unarmed, a point costs one
comparison.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ampd_ray.errors import ConfigError, FailpointError

ARMS: Final = "AMPD_RAY_FAILPOINTS"
FIRED: Final = "AMPD_RAY_FAILPOINTS_DIR"

POINTS: Final = (
    "job-claimed",  # the row is RUNNING and ours
    "planned",  # what is missing is cut into units
    "task-dispatched",  # an extractor has a task
    "task-returned",  # its rows are there
    "intent-written",  # a file is announced
    "mid-file",  # a file has some of its rows
    "file-closed",  # a file is complete in staging
    "published",  # it is there under its name
    "before-commit",  # all files of a segment are there and checked
    "in-commit",  # the rows of a segment are written, COMMIT is not sent
    "committed",  # COMMIT is answered, nobody has heard of it
    "before-settle",  # a job has ended, its row does not say so
    "takeover-claiming",  # a claim is written, COMMIT is not sent
    "takeover-claimed",  # the row is ours, nothing has begun
    "sweep-found",  # objects to be deleted are listed
    "sweep-deleted",  # they are gone, which nothing says
    "sweep-collected",  # replaced files have tombstones in place of rows
    "draining",  # asked to end
)
_ARM: Final = re.compile(
    r"(?P<point>[a-z-]+)=(?P<action>kill|raise|stop|delay)(\((?P<secs>\d+(\.\d+)?)\))?(@(?P<hit>\d+))?(\*(?P<times>\d+))?"
)
_WITH_SECS: Final = ("stop", "delay")


@dataclass(frozen=True, slots=True)
class Arm:
    """What one point does: from its ``hit``-th hit in a process on, ``times`` in all."""

    point: str
    action: str
    secs: float = 0.0
    hit: int = 1
    times: int = 1


def parse(text: str) -> dict[str, Arm]:
    """The arms in ``text`` by their points. Raises ConfigError, since a point that is misspelt would never fire."""
    arms = [_parse(part.strip()) for part in text.split(";") if part.strip()]
    return {arm.point: arm for arm in arms}


def _parse(text: str) -> Arm:
    found = _ARM.fullmatch(text)
    if found is None or (found["action"] in _WITH_SECS) != (found["secs"] is not None):
        raise ConfigError(f"{ARMS}: {text!r} is not POINT=ACTION, such as published=kill or planned=stop(6)")
    if found["point"] not in POINTS:
        raise ConfigError(f"{ARMS}: there is no point {found['point']!r}, only {', '.join(POINTS)}")
    secs, hit, times = float(found["secs"] or 0), int(found["hit"] or 1), int(found["times"] or 1)
    return Arm(found["point"], found["action"], secs, hit, times)


class Armory:
    """The arms of one process. ``told`` is a list of arms, or ``@`` and the file that holds it."""

    def __init__(self, told: str, fired: Path | None):
        self._file = Path(told[1:]) if told.startswith("@") else None
        self._arms = {} if self._file else parse(told)
        self._fired = fired
        self._hits: Counter[str] = Counter()
        self._acts: Counter[str] = Counter()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Armory | None:
        """What the environment arms."""
        told, fired = environ.get(ARMS, "").strip(), environ.get(FIRED)
        return cls(told, Path(fired) if fired else None) if told else None

    def draw(self, point: str) -> Arm | None:
        """The arm that goes off now at ``point``, counted; None if there is none."""
        arm = self._read().get(point)
        if arm is None:
            return None
        self._hits[point] += 1
        return arm if self._hits[point] >= arm.hit and self._count(arm) else None

    def _read(self) -> dict[str, Arm]:
        if self._file is None:
            return self._arms
        try:
            return parse(self._file.read_text())
        except FileNotFoundError:
            return {}

    def _count(self, arm: Arm) -> bool:
        """Leave a trace of one more act, unless there have been enough."""
        if self._fired is None:
            self._acts[arm.point] += 1
            return self._acts[arm.point] <= arm.times
        for number in itertools.count(1):
            if number > arm.times:
                break
            try:
                with (self._fired / f"{arm.point}.{number:04}").open("x") as trace:
                    trace.write(f"{os.getpid()} {arm.action}")
            except FileExistsError:
                continue
            return True
        return False


_armory = Armory.of(os.environ)


def armed() -> bool:
    """Whether the environment arms this process, so that it may fail on purpose."""
    return _armory is not None


async def reach(point: str) -> None:
    """A task is at ``point``. Raises FailpointError if that is what was asked for."""
    if _armory is not None and (arm := _armory.draw(point)) is not None:
        if arm.action == "delay":
            await asyncio.sleep(arm.secs)
        else:
            _act(arm)


def reach_in_thread(point: str) -> None:
    """As :func:`reach`, for code that may block."""
    if _armory is not None and (arm := _armory.draw(point)) is not None:
        if arm.action == "delay":
            time.sleep(arm.secs)
        else:
            _act(arm)


def _act(arm: Arm) -> None:
    if arm.action == "raise":
        raise FailpointError(f"the failpoint {arm.point} is armed to raise")
    if arm.action == "stop":  # somebody else has to wake us
        subprocess.Popen(["sh", "-c", f"sleep {arm.secs:g}; kill -CONT {os.getpid()}"], start_new_session=True)
    os.kill(os.getpid(), signal.SIGSTOP if arm.action == "stop" else signal.SIGKILL)
