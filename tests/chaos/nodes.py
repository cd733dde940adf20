"""The workers of a fail-over group: real processes, replaced as soon as they end."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ampd_ray import failpoints
from tests.fakes.site import Site
from tests.fakes.worker import UP, Worker, end_all, of_ray_itself

ACTORS = {"CoordinatorActor": "coordinator", "ExtractorActor": "extractor", "WriterActor": "writer"}
RESTART_PAUSE_SECS = 3.0  # from one start to the next
ORPHAN_SECS = 30.0  # by then nothing is left of a worker whose driver has ended


@dataclass(frozen=True)
class Ended:
    """A worker that is no more. ``asked``: it was told to end."""

    node_id: str
    pid: int
    code: int
    asked: bool
    at: float = field(default_factory=time.monotonic)

    @property
    def as_expected(self) -> bool:
        """0 is for who was asked to; 1 for a coordinator that died, 3 for one that was fenced."""
        return self.code in (1, 3, -signal.SIGKILL) or (self.code == 0 and self.asked)


class Node:
    """One Node ID and the workers that run it, one after the other."""

    def __init__(self, site: Site, node_id: str, env: Mapping[str, str], scratch: Path) -> None:
        self.node_id = node_id
        self.arms = scratch / f"{node_id}.arms"
        self.scratch = scratch / node_id
        self.held = False  # not to be replaced for now
        self.asked = False
        self._site = site
        self._env = {
            **env,
            failpoints.ARMS: f"@{self.arms}",
            failpoints.FIRED: str(scratch / "fired"),
            "RAY_TMPDIR": str(self.scratch),
        }
        self.scratch.mkdir()
        self.start()

    def start(self) -> None:
        """Start a worker; the one before has ended."""
        self.started = time.monotonic()
        self._was_up = False
        self.worker = self.launch()
        self.asked = False

    def launch(self) -> Worker:
        """The process; it has a Ray of its own."""
        return Worker(self._site, self.node_id, env=self._env)

    @property
    def pid(self) -> int:
        """Of the driver."""
        return self.worker.process.pid

    @property
    def alive(self) -> bool:
        return self.worker.process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code; None while it lives."""
        return self.worker.process.poll()

    @property
    def up(self) -> bool:
        """True once it takes jobs, and while it lives."""
        self._was_up = self._was_up or UP in self.worker.log()
        return self._was_up and self.alive

    @property
    def processes(self) -> list[psutil.Process]:
        """The driver, and all that is there for this worker only."""
        return processes_of(self.pid)

    def actors(self, role: str) -> list[psutil.Process]:
        """Its processes of one role, as ``role_of`` names it."""
        return [process for process in self.processes if role_of(process) == role]

    def drain(self) -> None:
        """Ask it to end."""
        self.asked = True
        self.worker.process.terminate()


class Nodes(dict[str, Node]):
    """All of them by Node ID. ``tend`` replaces those that have ended: call it whenever there is time."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[Ended] = []
        self.restarts = 0
        self._noted: set[int] = set()
        self._strange: list[str] = []

    def tend(self) -> None:
        """Look at each; what replaces it gets ready in the background."""
        for node in self.values():
            code = node.worker.process.poll()
            if code is None:
                continue
            if node.pid not in self._noted:
                self._noted.add(node.pid)
                self.ended.append(Ended(node.node_id, node.pid, code, node.asked))
                if not self.ended[-1].as_expected:
                    self._strange.append(f"I10 {node.node_id} ended with {code}: {node.worker.log()[-500:]}")
            if not node.held and time.monotonic() >= node.started + RESTART_PAUSE_SECS:
                node.start()
                self.restarts += 1

    def bury(self) -> Iterator[str]:
        """Clear away what is left of workers that ended a while ago, and say which processes should not have been left.

        Ray's own agents outlive a Ray that is killed, and its logs, which have been looked at by then, fill the disk.
        """
        for ended in [each for each in self.ended if time.monotonic() - each.at >= ORPHAN_SECS]:
            left = processes_of(ended.pid)
            yield from (f"I8 {role_of(each)} of {ended.node_id} is left" for each in left if not of_ray_itself(each))
            end_all(left)
            for session in self[ended.node_id].scratch.glob(f"ray/session_*_{ended.pid}"):
                shutil.rmtree(session, ignore_errors=True)
            self.ended.remove(ended)

    def strange_ends(self) -> list[str]:
        """Workers that ended as none should, since the last time that somebody asked."""
        strange, self._strange = self._strange, []
        return strange

    def close(self) -> None:
        """End everything that was started here."""
        pids = [ended.pid for ended in self.ended] + [node.pid for node in self.values()]
        for node in self.values():
            node.worker.process.kill()
            node.worker.process.wait()
        end_all([process for pid in pids for process in processes_of(pid)])


def processes_of(pid: int) -> list[psutil.Process]:
    """The driver ``pid`` and all below it, also when it has ended: they share a session."""
    found = []
    for each in psutil.pids():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(each) == pid:
                found.append(psutil.Process(each))
    return [process for process in found if is_there(process)]


def is_there(process: psutil.Process) -> bool:
    """True unless it has ended, collected by its parent or not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_frozen(process: psutil.Process) -> bool:
    """True if a signal has stopped it, or it has ended."""
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def role_of(process: psutil.Process) -> str:
    """What a process of a worker is: an actor, by the title that Ray gives it, or its program."""
    with suppress(psutil.Error):
        title = " ".join(process.cmdline())
        for actor, role in ACTORS.items():
            if title.startswith(f"ray::{actor}"):
                return role
        return title.split()[0] if title.startswith("ray::") else str(process.name())
    return "gone"


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> int:
    """Send a signal to those that are there; how many."""
    sent = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            sent += 1
    return sent
