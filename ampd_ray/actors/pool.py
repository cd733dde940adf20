"""The extractors and writers of one node as the jobs see them.

Both pools are shared by all jobs of the node: a job that waits holds nobody's process. Actors are made when there is
work, up to a limit; a dead one is replaced. Which actor gets a call: the least loaded that is ready.

The first actor of each pool stands beside the coordinator and asks for no CPU, so that a node always has one writer
and one extractor, however busy the cluster is. All others ask for one CPU each and wait until there is one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ampd_ray import failpoints
from ampd_ray.actors.extractor import ExtractorActor
from ampd_ray.actors.failures import actor_is_gone, domain_error
from ampd_ray.actors.writer import WriterActor
from ampd_ray.config import Settings
from ampd_ray.errors import ActorLost, AmpdError
from ampd_ray.materialize.types import ExtractSummary, Partition, RangeTask, WriterReport

logger = logging.getLogger(__name__)

# Tasks at one extractor at a time: while one is decoded the next is fetched.
TASKS_PER_EXTRACTOR = 3
CALLS_PER_ACTOR = 64
MAX_FAILED_STARTS = 5
RESTART_PAUSE_SECS = 1.0


@dataclass(eq=False)
class Member:
    """One actor of a pool; ``load`` counts calls (extractors) or open partitions (writers)."""

    handle: Any
    beside: bool  # beside the coordinator, without a CPU of its own
    ready: bool = False
    load: int = 0


class Pool:
    """Up to ``size`` actors: all at the first call if ``eager``, else as many as calls find none idle.

    ``make(beside)`` creates one, ``beside`` the coordinator or where there is a CPU for it.
    """

    def __init__(self, name: str, size: int, make: Callable[[bool], Any], *, eager: bool):
        self.name = name
        self.size = size
        self._make = make
        self._eager = eager
        self._members: list[Member] = []
        self._ended: list[Member] = []
        self._changed = asyncio.Condition()
        self._starting: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._failed_starts = 0
        self._last_failure: AmpdError | None = None

    @property
    def ready(self) -> int:
        """How many actors there are now; others may be on their way."""
        return len(self._ready())

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
                await self._changed.wait_for(lambda: self._ready() or self._failed_starts >= MAX_FAILED_STARTS)
            finally:
                self._waiting -= 1
            if not self._ready():
                assert self._last_failure is not None
                raise self._last_failure
            member = min(self._ready(), key=lambda m: m.load)
            member.load += 1
            return member

    async def release(self, member: Member, error: BaseException | None = None) -> None:
        """Lower the load; an actor that died or cannot be reached is replaced."""
        async with self._changed:
            member.load -= 1
            if error is not None and actor_is_gone(error) and member in self._members:
                logger.warning("a %s is gone (%s); it is replaced", self.name, type(error).__name__)
                self._members.remove(member)
                ray.kill(member.handle)
                self._grow()

    def close(self) -> None:
        """End all actors."""
        for task in self._starting:
            task.cancel()
        for member in self._members:
            ray.kill(member.handle)
        # Their handles live on: an actor whose last one goes ends by itself, amid what it does, with tracebacks.
        self._ended, self._members = self._members, []

    def _ready(self) -> list[Member]:
        return [member for member in self._members if member.ready]

    def _idle(self) -> int:
        return sum(member.load == 0 for member in self._members)

    def _grow(self) -> None:
        """Add actors up to the limit; without ``eager`` only for calls that find none idle or on its way."""
        while len(self._members) < self.size and (self._eager or self._idle() < self._waiting):
            beside = not any(member.beside for member in self._members)
            member = Member(self._make(beside), beside)
            self._members.append(member)
            task = asyncio.create_task(self._await_ready(member))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _await_ready(self, member: Member) -> None:
        try:
            await member.handle.ready.remote()
        except Exception as error:
            failure = domain_error(error, f"a {self.name}")
            logger.warning("a %s did not start: %s", self.name, failure)
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
                self._changed.notify_all()


class RayExtractors:
    """The port ``Extractors`` of :mod:`ampd_ray.materialize.perform` on Ray."""

    def __init__(self, pool: Pool):
        self._pool = pool

    def wanted_tasks(self) -> int:
        """Enough to keep every extractor that is there fetching while it decodes."""
        return TASKS_PER_EXTRACTOR * max(1, self._pool.ready)

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Any]:
        """The summary by value, the rows as a reference that a writer resolves."""
        member = await self._pool.acquire()
        failure: BaseException | None = None
        try:
            summary, rows = member.handle.extract.remote(task)
            await failpoints.reach("task-dispatched")
            return await summary, rows
        except Exception as error:
            failure = error
            raise domain_error(error, "an extractor") from None
        finally:
            await self._pool.release(member, failure)


class RayWriters:
    """The port ``Writers`` of :mod:`ampd_ray.materialize.passes` on Ray."""

    def __init__(self, pool: Pool):
        self._pool = pool

    async def open(self, partition: Partition) -> RayPartition:
        """Give the partition to the least loaded writer."""
        member = await self._pool.acquire()
        try:
            return RayPartition(self._pool, member, await member.handle.open.remote(partition))
        except BaseException as error:
            await self._pool.release(member, error)
            if isinstance(error, Exception):
                raise domain_error(error, "a writer") from None
            raise


class RayPartition:
    """A partition at a writer actor."""

    def __init__(self, pool: Pool, member: Member, key: int):
        self._pool = pool
        self._member = member
        self._key = key
        self._released = False

    async def append(self, rows: Any) -> WriterReport:
        """Pass the reference on; Ray resolves it in the writer's process."""
        report: WriterReport = await self._call("append", rows)
        return report

    async def flush(self, reason: str) -> WriterReport:
        """Commit what the open file holds."""
        report: WriterReport = await self._call("flush", reason)
        return report

    async def discard(self) -> None:
        """Give the partition back."""
        try:
            await self._call("discard")
        finally:
            await self._release(None)

    async def _call(self, method: str, *args: Any) -> Any:
        if self._released:
            raise ActorLost("the writer of this partition was lost")
        try:
            return await getattr(self._member.handle, method).remote(self._key, *args)
        except Exception as error:
            if actor_is_gone(error):
                await self._release(error)
            raise domain_error(error, "a writer") from None

    async def _release(self, error: Exception | None) -> None:
        if not self._released:
            self._released = True
            await self._pool.release(self._member, error)


def extractor_pool(settings: Settings, size: int) -> Pool:
    """Extractors run anywhere in the cluster; those that find no room stay pending, which is what autoscales it."""
    return Pool("extractor", size, _maker(ExtractorActor, settings), eager=True)


def writer_pool(settings: Settings, size: int, application_name: str) -> Pool:
    """Writers are made as partitions need them."""
    return Pool("writer", size, _maker(WriterActor, settings, application_name), eager=False)


def _maker(plain: type, *args: Any) -> Callable[[bool], Any]:
    """Creates actors. Nothing restarts by itself: what is lost is planned again, by us, from Postgres."""
    as_actor: Any = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)
    actor = as_actor(plain)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)

    def make(beside: bool) -> Any:
        place = {"num_cpus": 0, "scheduling_strategy": here} if beside else {}
        return actor.options(max_concurrency=CALLS_PER_ACTOR, **place).remote(*args)

    return make
