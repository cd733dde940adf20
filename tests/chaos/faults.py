"""The outside faults: how each begins and ends, and the counter that proves that it happened."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from ampd_ray.client.job import Job
from ampd_ray.metadb.postmaster import Postmaster
from tests.chaos.lines import DatabaseLine
from tests.chaos.nodes import Node, is_frozen, is_there, processes_of, send
from tests.chaos.plan import Arm, Fault, Outside
from tests.chaos.world import World

VICTIM_SECS = 40.0
GONE_SECS = 5.0
DRAIN_SECS = 30.0
COMMIT_SECS = 20.0
FELT_SECS = 15.0  # a worker whose coordinator has just died says nothing, and ends some seconds later
DRAINING = "msg=draining"


class Injection:
    """One fault. ``aim`` and ``start`` it, ``end`` it when ``over``; then ``fired`` tells how often it happened."""

    role: str | None = None  # of the process that is hit, if it is one only
    tries = 3  # nodes that may be hit, where something else ends one before it has felt anything

    def __init__(self, world: World, fault: Fault, job: Job) -> None:
        self.kind = fault.kind
        self.fired = 0
        self.world = world
        self._job = job
        self._secs = fault.secs
        self._until = 0.0

    def aim(self) -> None:
        """Choose whom it hits: the node that runs the job, once it is up and has what is to be hit."""

        def found() -> Node | None:
            node = self.world.node_of(self._job)
            return node if node.up and (self.role is None or node.actors(self.role)) else None

        self.node: Node = self.world.until(found, VICTIM_SECS, f"a victim for {self.kind!r}")
        self.tries -= 1
        self._pid = self.node.pid
        self._until = time.monotonic() + self._secs

    @property
    def lost(self) -> bool:
        """True once the worker that was hit has ended."""
        return self.node.pid != self._pid or not self.node.alive

    @property
    def over(self) -> bool:
        """True when it may end."""
        return time.monotonic() >= self._until

    @property
    def leaves_room(self) -> bool:
        """True while another fault may begin beside it."""
        return True

    def start(self) -> None:
        """What happens first."""

    def tend(self) -> None:
        """What is to be done meanwhile, again and again."""

    def end(self) -> None:
        """What happens last."""

    def targets(self) -> list[psutil.Process]:
        """The processes that are hit."""
        return processes_of(self.node.pid) if self.role is None else self.node.actors(self.role)[:1]

    def found(self) -> list[psutil.Process]:
        """The same; where something else has ended them since, those of another node."""
        while not (targets := self.targets()) and self.tries:
            self.aim()
        return targets


class Kill(Injection):
    """SIGKILL. A worker that dies of it is not replaced within ``secs``, for a peer to take over."""

    def start(self) -> None:
        targets = self.found()
        self.node.held = True
        send(targets, signal.SIGKILL)
        self.world.until(lambda: not any(map(is_there, targets)), GONE_SECS, f"{self.kind!r}: dead")
        self.fired = len(targets)

    def end(self) -> None:
        self.node.held = False


class KillDriver(Kill):
    """Its actors are left to notice."""

    def targets(self) -> list[psutil.Process]:
        return [each for each in processes_of(self.node.pid) if each.pid == self.node.pid]


class KillCoordinator(Kill):
    role = "coordinator"


class KillExtractor(Kill):
    role = "extractor"


class KillWriter(Kill):
    role = "writer"


class Pause(Injection):
    """SIGSTOP, and SIGCONT at the end."""

    def start(self) -> None:
        self._frozen = self.found()
        send(self._frozen, signal.SIGSTOP)
        self.world.until(lambda: all(map(is_frozen, self._frozen)), GONE_SECS, f"{self.kind!r}: frozen")
        self.fired = len(self._frozen)

    def end(self) -> None:
        send(self._frozen, signal.SIGCONT)


class PauseWriter(Pause):
    role = "writer"


class Drain(Injection):
    """SIGTERM, and the node's end within its time. If something else kills it before it hears, another one is asked."""

    def start(self) -> None:
        self._worker, self._heard, self._ended = self.node.worker, False, False
        self.node.drain()
        self._until = time.monotonic() + DRAIN_SECS

    def tend(self) -> None:
        self._ended = self.lost
        self._heard = self._heard or self._begun()
        if self._ended and not self._heard and self.tries:
            self.aim()
            self.start()

    @property
    def over(self) -> bool:
        return self._ended or super().over

    @property
    def leaves_room(self) -> bool:
        """Once it has been heard: a worker that is killed before has only been killed."""
        return self._heard or self._ended

    def end(self) -> None:
        self.fired = int(self._heard and self._ended)

    def _begun(self) -> bool:
        """It came to the failpoint, or past it."""
        return DRAINING in self._worker.log() or any(self.world.fired.glob("draining.*"))


class Restart(Injection):
    """The server stops, and comes back after its time."""

    number = signal.SIGINT

    @property
    def leaves_room(self) -> bool:
        """While the server is away, nobody can say who is to be hit."""
        return False

    def start(self) -> None:
        self._postmaster = self.world.stop_postgres(self.number)

    def end(self) -> None:
        self.world.postgres.start()
        running = Postmaster.read(self.world.postgres.data_dir)
        self.fired = int(running is not None and running.pid != self._postmaster)


class RestartAtOnce(Restart):
    number = signal.SIGQUIT


class Disturb(Injection):
    """One worker's line to the database. If the worker ends before it feels that, another's is disturbed."""

    def lines(self) -> list[DatabaseLine]:
        """Those that are disturbed."""
        return [self.world.around.lines[self.node.node_id]]

    def start(self) -> None:
        self._before = self._count()
        for line in self.lines():
            self.world.around.disturb(line, self.kind)

    def tend(self) -> None:
        if self.lost and self.tries and self._count() == self._before:
            self._mend()
            self.aim()
            self.start()

    @property
    def over(self) -> bool:
        felt = self._count() > self._before
        return super().over and (felt or time.monotonic() >= self._until + FELT_SECS)

    def end(self) -> None:
        self._mend()
        self.fired = self._count() - self._before

    def _mend(self) -> None:
        for line in self.lines():
            self.world.around.mend(line)

    def _count(self) -> int:
        return sum(line.fired[self.kind] for line in self.lines())


class DisturbCommit(Disturb):
    """The next COMMIT of a segment, whoever sends it."""

    def start(self) -> None:
        super().start()
        self._until = time.monotonic() + COMMIT_SECS

    def tend(self) -> None:
        """Whoever is left commits."""

    @property
    def over(self) -> bool:
        return self._count() > self._before or time.monotonic() >= self._until

    def lines(self) -> list[DatabaseLine]:
        return list(self.world.around.lines.values())


KINDS: dict[Outside, type[Injection]] = {
    Outside.KILL_DRIVER: KillDriver,
    Outside.KILL_GROUP: Kill,
    Outside.KILL_COORDINATOR: KillCoordinator,
    Outside.KILL_EXTRACTOR: KillExtractor,
    Outside.KILL_WRITER: KillWriter,
    Outside.PAUSE_WORKER: Pause,
    Outside.PAUSE_WRITER: PauseWriter,
    Outside.DRAIN: Drain,
    Outside.RESTART_FAST: Restart,
    Outside.RESTART_IMMEDIATE: RestartAtOnce,
    Outside.CUT: Disturb,
    Outside.BLACKHOLE: Disturb,
    Outside.LATENCY: Disturb,
    Outside.COMMIT_UNSENT: DisturbCommit,
    Outside.COMMIT_UNHEARD: DisturbCommit,
}


class Failpoints:
    """Those of one schedule, armed in all workers: whoever comes there first is hit."""

    def __init__(self, world: World, arms: Sequence[Arm]) -> None:
        self._world = world
        self._arms = arms

    def arm(self) -> None:
        """From now on."""
        for node in self._world.nodes.values():
            new = node.arms.with_suffix(".new")
            new.write_text("; ".join(arm.text for arm in self._arms))
            new.rename(node.arms)

    def disarm(self) -> None:
        """Nothing more fires, and the traces of what did are cleared away."""
        for node in self._world.nodes.values():
            node.arms.unlink(missing_ok=True)
        for trace in self._traces():
            trace.unlink()

    def counts(self) -> dict[str, int]:
        """How often each fired."""
        fired = [trace.name.split(".")[0] for trace in self._traces()]
        return {arm.point: fired.count(arm.point) for arm in self._arms}

    def last(self) -> float:
        """When the last one fired, as ``time.time`` counts; 0 if none did."""
        return max((trace.stat().st_mtime for trace in self._traces()), default=0.0)

    @property
    def all_fired(self) -> bool:
        return all(self.counts().values())

    def _traces(self) -> list[Path]:
        return sorted(self._world.fired.iterdir())
