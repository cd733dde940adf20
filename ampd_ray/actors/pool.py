"""The extractor and writer actors of one node.

Both pools are shared by all jobs of the node: a job that waits holds nobody's process. Actors are made when there is
work, up to a limit; one that died or hangs is replaced, and so is one whose Ray node is about to go. Which actor gets a
call: the least loaded that is ready. One that is too many gets no more calls, and is let go once it has none: nothing
that is under way is ever lost by that.

The first actor of each pool stands beside the coordinator and is there within seconds; all others may wait for a place
for as long as it takes (``placement.py``).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray

from ampd_ray import __version__
from ampd_ray.actors import package
from ampd_ray.actors.extractor import ExtractorActor
from ampd_ray.actors.failures import actor_is_gone, domain_error
from ampd_ray.actors.placement import Options, Placement
from ampd_ray.actors.probed import PROBES, Seen
from ampd_ray.actors.silence import Silence
from ampd_ray.actors.writer import WriterActor
from ampd_ray.config import Sealed
from ampd_ray.errors import ActorLost, AmpdError
from ampd_ray.materialize.types import Load

logger = logging.getLogger(__name__)
T = TypeVar("T")

CALLS_PER_ACTOR = 64
MAX_FAILED_STARTS = 5
RESTART_PAUSE_SECS = 1.0
START_SECS = 120.0  # for one that needs no CPU; all others wait for one as long as it takes
PROBE_SECS = 2.0


@dataclass(eq=False)
class Member:
    """One actor of a pool; ``load`` counts calls (extractors) or open partitions (writers)."""

    beside: bool  # beside the coordinator, without a CPU of its own
    handle: Any = None  # as long as it is not made
    ready: bool = False
    load: int = 0
    ray_node: str = ""  # as long as it is not ready
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    gone_at: float = math.inf  # in the loop's time, for one that is leaving
    used_at: float = field(default_factory=time.monotonic)  # when it last had a call
    surplus: bool = False  # gets no more calls, and is let go
    load_seen: Load = field(default_factory=Load)  # what it answered to the last probe
    silence: Silence = field(default_factory=Silence)
    probe: asyncio.Task[Seen | Exception] | None = None


class Pool:
    """Up to ``size`` actors: all at the first call if ``eager``, else as many as calls find none idle.

    ``name`` is what the log calls one. ``make(beside)`` creates one, ``beside`` the coordinator or where there is a CPU
    for it. Those that nobody called for ``idle_secs`` are let go, but for the one beside the coordinator.
    ``on_turn`` is called after each look at all of them.
    """

    def __init__(self, name: str, size: int, make: Callable[[bool], Any], *, eager: bool, idle_secs: float = math.inf):
        self.name = name
        self.size = size
        self.replaced = 0
        self.released = 0
        self.on_turn: Callable[[], None] = lambda: None
        self._idle_secs = idle_secs
        self._make = make
        self._eager = eager
        self._members: list[Member] = []
        self._leaving: list[Member] = []
        self._departing: dict[str, float] = {}
        self._ended: list[Member] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._settling: asyncio.Event | None = None
        self._watching = False
        self._waiting = 0
        self._failed_starts = 0
        self._last_failure: AmpdError | None = None

    @property
    def ready(self) -> int:
        """How many actors take calls now; others may be on their way."""
        return len(self._ready())

    @property
    def pending(self) -> int:
        """How many are on their way, most of them waiting for a CPU."""
        return sum(not member.ready for member in self._members)

    @property
    def working(self) -> int:
        """How many there are, those included that are about to be let go."""
        return len(self._up()) + len(self._leaving)

    @property
    def on_cpus(self) -> int:
        """How many of them have a CPU of the cluster."""
        return sum(member.ready and not member.beside for member in self._members)

    def loads(self) -> list[Load]:
        """What those that take calls said last of what they do, those who have not yet included."""
        return [member.load_seen for member in self._ready()]

    def resize(self, size: int) -> None:
        """Have so many from now on. Those that come too many are let go, each once it has no calls."""
        self.size = size
        on_node = Counter(member.ray_node for member in self._up())

        def worth(member: Member) -> tuple[Any, ...]:
            """Those who stay come first. Of a Ray node that few of ours are on, all go: then it can go itself."""
            node = member.ray_node
            return not member.beside, not member.ready, -on_node[node], node, -member.load

        for place, member in enumerate(sorted(self._members, key=worth)):
            member.surplus = place >= size
        self._let_go()
        if self._members or self._waiting:
            self._grow()

    async def acquire(self) -> Member:
        """The least loaded ready actor, its load raised by one; waits until there is one.

        Raises the error of the last start if several in a row failed.
        """
        async with self._changed:
            if not self._members:
                self._failed_starts = 0
            self._waiting += 1
            try:
                self._grow()
                await self._changed.wait_for(self._may_choose)
            finally:
                self._waiting -= 1
            if not self._ready():
                assert self._last_failure is not None
                raise self._last_failure
            member = min(self._ready(), key=lambda m: m.load)
            member.load += 1
            return member

    def release(self, member: Member, error: BaseException | None = None) -> None:
        """Lower the load; an actor that died or cannot be reached is replaced.

        It waits for nothing, so that whoever is cancelled gives back all the same: a load that stays would keep an
        actor from work for as long as it lives.
        """
        member.load -= 1
        member.used_at = time.monotonic()
        if error is not None and actor_is_gone(error):
            self._replace(member, type(error).__name__)
        elif member in self._leaving and not member.load:
            self._part_with(member)
        self._let_go()
        self._see_whether_settled()

    def leave(self, ray_node: str, secs: float) -> None:
        """The Ray node goes in so many seconds: its actors get no more calls, and end once they have none.

        Others are made in their place at once. Told again, the time that is left is as it was said last.
        """
        self._departing[ray_node] = asyncio.get_running_loop().time() + secs
        for member in [*self._up(), *self._leaving]:
            if member.ray_node == ray_node:
                self._take_leave(member)
        if self._members or self._leaving:
            self._grow()

    async def settle(self, within_secs: float) -> None:
        """Whoever asks for an actor waits from now on; returns once none has any calls, or after that time.

        What cannot be done by then is handed back.
        """
        self._settling = asyncio.Event()
        for member in self._up():
            self._tell(member, within_secs)
        self._see_whether_settled()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._settling.wait(), within_secs)

    def close(self) -> None:
        """End all actors."""
        for task in self._tasks:
            task.cancel()
        # Their handles live on: an actor whose last one goes ends by itself, amid what it does, with tracebacks.
        self._ended, self._members, self._leaving = [*self._members, *self._leaving], [], []
        for member in self._ended:
            _kill(member)

    def _may_choose(self) -> bool:
        """Whether who waits for an actor gets one, or the error of the last start."""
        return self._settling is None and bool(self._ready() or self._failed_starts >= MAX_FAILED_STARTS)

    def _see_whether_settled(self) -> None:
        if self._settling is not None and not any(member.load for member in [*self._members, *self._leaving]):
            self._settling.set()

    def _ready(self) -> list[Member]:
        """Those that get calls: of those who are too many only where there is no other."""
        return [member for member in self._up() if not member.surplus] or self._up()

    def _up(self) -> list[Member]:
        return [member for member in self._members if member.ready]

    def _idle(self) -> int:
        return sum(member.load == 0 for member in self._members)

    def _let_go(self) -> None:
        """End those that are too many and have nothing to do, on their way or not."""
        for member in [member for member in self._members if member.surplus and member.load == 0]:
            logger.info("%s is let go: there is no need of it", self.name, extra={"there_are": len(self._members) - 1})
            self.released += 1
            self._members.remove(member)
            _kill(member)

    def _grow(self) -> None:
        """Add actors up to the limit; without ``eager`` only for calls that find none idle or on its way."""
        while self._kept() < self.size and (self._eager or self._idle() < self._waiting):
            beside = not any(member.beside for member in self._members)
            member = Member(beside)
            self._members.append(member)
            self._start(self._bring_up(member))
        if not self._watching:
            self._watching = True
            self._start(self._watch())

    def _kept(self) -> int:
        return sum(not member.surplus for member in self._members)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _bring_up(self, member: Member) -> None:
        """Whatever goes wrong is a failed start, which those who wait for an actor are told of."""
        if member not in self._members:  # let go before it was made: nobody would ever end it
            return

        async def made() -> None:
            member.handle = self._make(member.beside)
            await member.handle.is_of_version.remote(__version__)
            await member.handle.ready.remote()
            member.ray_node = await member.handle.stands_on.remote()

        answer = await _answer(made, START_SECS if member.beside else None)
        if member not in self._members:  # let go as it was on its way
            _kill(member)
        elif isinstance(answer, Exception):
            failure = package.missing(answer) or domain_error(answer, self.name)
            logger.warning("%s did not start: %s", self.name, failure)
            _kill(member)
            await asyncio.sleep(RESTART_PAUSE_SECS)
            async with self._changed:
                self._failed_starts += 1
                self._last_failure = failure
                if member in self._members:
                    self._members.remove(member)
                if self._failed_starts < MAX_FAILED_STARTS:
                    self._grow()
                self._changed.notify_all()
        else:
            async with self._changed:
                member.ready = True
                self._failed_starts = 0
                if member.ray_node in self._departing:
                    self._take_leave(member)
                    self._grow()
                self._changed.notify_all()

    # -- those that died or hang ----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECS / 2)
            for member in [*self._up(), *self._leaving]:
                self._look_at(member)
            await asyncio.sleep(PROBE_SECS / 2)  # by then they have answered
            self._find_idle()
            self.on_turn()

    def _find_idle(self) -> None:
        """Of those who are on their way all are too many if each of the others has one call at most."""
        enough = sum(member.load for member in self._members) <= self.ready
        for member in self._members:
            idle = member.load == 0 and time.monotonic() - member.used_at >= self._idle_secs
            member.surplus |= idle and not member.beside and (member.ready or enough)
        self._let_go()

    def _look_at(self, member: Member) -> None:
        """One turn: has it answered what it was asked at the last one?"""
        answered = member.probe is None or member.probe.done()
        if member.silence.turn(answered=answered):
            self._replace(member, "no answer")
        elif answered:
            answer = member.probe.result() if member.probe is not None else None
            if isinstance(answer, Exception) and actor_is_gone(answer):
                self._replace(member, type(answer).__name__)
            else:
                member.probe = self._start(self._ask(member))

    async def _ask(self, member: Member) -> Seen | Exception:
        answer: Seen | Exception = await _answer(member.handle.turns.remote)
        if isinstance(answer, Seen):
            member.load_seen = answer.load
        return answer

    def _replace(self, member: Member, why: str) -> None:
        """Its calls end with an error: Ray counts an actor as dead that it was told to kill, halted or not."""
        if member in self._leaving:
            logger.info("%s went with its Ray node (%s)", self.name, why)
            self._part_with(member)
        elif member in self._members:
            logger.warning("%s is gone (%s); it is replaced", self.name, why)
            self.replaced += 1
            self._members.remove(member)
            _kill(member)
            self._grow()

    # -- those whose Ray node is about to go ----------------------------------------------------------------------

    def _take_leave(self, member: Member) -> None:
        member.gone_at = self._departing[member.ray_node]
        secs = member.gone_at - asyncio.get_running_loop().time()
        if member in self._members:
            logger.info("%s leaves: its Ray node goes in %.0f s", self.name, secs)
            self._members.remove(member)
            self._leaving.append(member)
            member.leaving.set()
        if member.load:
            self._tell(member, secs)
        else:
            self._part_with(member)

    def _tell(self, member: Member, secs: float) -> None:
        self._start(_answer(lambda: member.handle.leave.remote(secs)))

    def _part_with(self, member: Member) -> None:
        """It has nothing more to do, and Ray ends a node that drains once nothing is left on it."""
        self._leaving.remove(member)
        _kill(member)


def _kill(member: Member) -> None:
    if member.handle is None:
        return
    try:
        ray.kill(member.handle)
    except Exception as error:  # Ray itself is in trouble: nobody starves for an actor that lives too long
        logger.warning("an actor could not be ended", extra={"error": error})


async def _answer(call: Callable[[], Awaitable[T]], within_secs: float | None = None) -> T | Exception:
    """The answer to a call, or what went wrong with it, be it that it could not be made at all."""
    try:
        async with asyncio.timeout(within_secs):
            return await call()
    except TimeoutError:
        return ActorLost(f"it did not start within {within_secs:g} s")
    except Exception as error:
        return error


def extractor_pool(settings: Sealed, size: int, place: Placement) -> Pool:
    """Extractors that find no room stay pending, which is what autoscales the cluster."""
    make = _maker(ExtractorActor, settings, first=place.beside, others=place.extractor)
    return Pool("an extractor", size, make, eager=True)


def writer_pool(
    settings: Sealed, size: int, place: Placement, application_name: str, idle_secs: float = math.inf
) -> Pool:
    """Writers are made as partitions need them."""
    make = _maker(WriterActor, settings, application_name, first=place.beside, others=place.writer)
    return Pool("a writer", size, make, eager=False, idle_secs=idle_secs)


def _maker(plain: type, *args: Any, first: Options, others: Options) -> Callable[[bool], Any]:
    """Creates actors. Nothing restarts by itself: what is lost is planned again, by us, from Postgres."""
    remote: Any = ray.remote
    actor = remote(max_restarts=0, max_task_retries=0, concurrency_groups={PROBES: 1})(plain)

    def make(beside: bool) -> Any:
        return actor.options(max_concurrency=CALLS_PER_ACTOR, **(first if beside else others)).remote(*args)

    return make
