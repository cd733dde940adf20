"""Which actor gets a call, what becomes of dead ones, and that no node goes without."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import ray

from ampd_ray.actors import pool, ports, silence
from ampd_ray.actors.crew import Crew
from ampd_ray.actors.placement import at, here
from ampd_ray.actors.pool import Pool
from ampd_ray.actors.probed import PROBES, Probed
from ampd_ray.chain.ranges import Span
from ampd_ray.errors import ActorLost, DatabaseRefused, PackageMismatch
from ampd_ray.materialize.state import TASKS_PER_EXTRACTOR
from ampd_ray.materialize.types import RangeTask
from ampd_ray.node.scaling import Bounds
from tests.ray.conftest import halted, ready_members, until


class Plain(Probed):
    """Does nothing, in a process of its own."""

    def __init__(self, error: Exception | None = None):
        self._error = error
        self._let_go = asyncio.Event()
        self._calls = 0
        self._discarded: list[int] = []

    async def ready(self) -> int:
        self._work_here()
        if self._error is not None:
            raise self._error
        return os.getpid()

    async def work(self, secs: float) -> None:
        """Long, in a thread, as all long work is done."""
        await asyncio.to_thread(time.sleep, secs)

    @ray.method(num_returns=2)
    async def extract(self, task: Any) -> tuple[None, None]:
        """As an extractor has it, without an end."""
        await asyncio.Event().wait()
        return None, None

    async def open(self, partition: Any) -> int:
        """As a writer has it; takes until it is let go."""
        self._calls += 1
        await self._let_go.wait()
        return 7

    async def flush(self, key: int, reason: str) -> None:
        """As a writer has it."""

    async def discard(self, key: int) -> None:
        """As a writer has it."""
        self._discarded.append(key)

    async def let_go(self) -> None:
        """Whoever opens may go on."""
        self._let_go.set()

    async def block(self, secs: float) -> None:
        """As no work may be done: nothing else gets its turn."""
        time.sleep(secs)  # noqa: ASYNC251

    @ray.method(concurrency_group=PROBES)
    async def seen(self) -> tuple[int, list[int]]:
        """How many calls to ``open`` have begun, and the partitions that were given back."""
        return self._calls, self._discarded


@asynccontextmanager
async def pool_of(size: int, *args: Any, eager: bool = True) -> AsyncIterator[Pool]:
    make = pool._maker(Plain, *args, first=at(here()), others={"num_cpus": 1})
    made = Pool("a helper", size, make, eager=eager)
    try:
        yield made
    finally:
        made.close()


async def test_the_least_loaded_actor_gets_the_call() -> None:
    async with pool_of(3) as helpers:
        first = await helpers.acquire()
        members = await ready_members(helpers, 3)
        for _ in range(5):
            await helpers.acquire()
        assert [member.load for member in members] == [2, 2, 2]
        helpers.release(first)
        assert await helpers.acquire() is first


async def test_writers_are_made_as_calls_find_none_idle() -> None:
    async with pool_of(3, eager=False) as helpers:
        one = await helpers.acquire()
        assert len(helpers._members) == 1
        helpers.release(one)
        assert await helpers.acquire() is one
        assert len(helpers._members) == 1
        await helpers.acquire()
        await ready_members(helpers, 2)
        assert len(helpers._members) == 2


async def test_calls_at_one_time_get_an_actor_each() -> None:
    async with pool_of(2, eager=False) as helpers:
        asked = [asyncio.create_task(helpers.acquire()) for _ in range(2)]
        await ready_members(helpers, 1)
        await asyncio.gather(*asked)
        assert len(helpers._members) == 2


@pytest.mark.parametrize("how", ["kill -9", "ray.kill"])
async def test_a_dead_actor_is_replaced_once(how: str) -> None:
    async with pool_of(1) as helpers:
        dead = await helpers.acquire()
        await helpers.acquire()
        pid = await dead.handle.ready.remote()
        os.kill(pid, signal.SIGKILL) if how == "kill -9" else ray.kill(dead.handle)
        with pytest.raises(ray.exceptions.ActorDiedError) as raised:
            await until_it_fails(dead.handle.ready.remote)
        for _ in range(2):
            helpers.release(dead, raised.value)
        (fresh,) = await ready_members(helpers, 1)
        assert fresh is not dead
        assert fresh.load == 0
        assert await fresh.handle.ready.remote() != pid


async def until_it_fails(call: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while True:
            await call()


async def test_the_first_actor_needs_no_cpu_and_so_does_its_replacement(no_cpu_left: None) -> None:
    async with pool_of(3) as helpers:
        first = await asyncio.wait_for(helpers.acquire(), 30)
        assert first.beside
        assert [member.beside for member in helpers._members] == [True, False, False]
        assert [member.ready for member in helpers._members] == [True, False, False]
        assert helpers.ready == 1
        assert extractors_of(helpers).slots(100) == TASKS_PER_EXTRACTOR
        ray.kill(first.handle)
        with pytest.raises(ray.exceptions.ActorDiedError) as raised:
            await until_it_fails(first.handle.ready.remote)
        helpers.release(first, raised.value)
        assert (await asyncio.wait_for(helpers.acquire(), 30)).beside


async def test_actors_that_never_start_give_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RESTART_PAUSE_SECS", 0.0)
    monkeypatch.setattr(pool, "MAX_FAILED_STARTS", 2)
    async with pool_of(1, DatabaseRefused("no such database")) as helpers:
        for _ in range(2):
            with pytest.raises(DatabaseRefused, match="no such database"):
                await asyncio.wait_for(helpers.acquire(), 60)
            await until(lambda: not helpers._members)


async def test_one_with_another_package_than_the_driver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RESTART_PAUSE_SECS", 0.0)
    monkeypatch.setattr(pool, "MAX_FAILED_STARTS", 1)
    monkeypatch.setattr(pool, "__version__", "9.9.9")
    async with pool_of(1) as helpers:
        with pytest.raises(PackageMismatch, match=r"the Ray node \S+ has ampd-ray .*, its worker 9\.9\.9\. Install"):
            await asyncio.wait_for(helpers.acquire(), 60)


async def test_closing_ends_all_actors() -> None:
    async with pool_of(2) as helpers:
        await helpers.acquire()
        members = list(await ready_members(helpers, 2))
    for member in members:
        with pytest.raises(ray.exceptions.ActorDiedError):
            await until_it_fails(member.handle.ready.remote)


async def test_a_partition_whose_writer_died_is_lost_for_good() -> None:
    async with pool_of(1) as helpers:
        member = await helpers.acquire()
        partition = ports.RayPartition(helpers, member, 1)
        ray.kill(member.handle)
        with pytest.raises(ray.exceptions.ActorDiedError):  # a call may still be served before the kill arrives
            await until_it_fails(member.handle.ready.remote)
        for _ in range(2):
            with pytest.raises(ActorLost):
                await partition.flush("age")
        with pytest.raises(ActorLost):
            await partition.discard()
        assert member.load == 0


async def test_a_hung_actor_is_replaced_and_one_that_works_long_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PROBE_SECS", 0.2)
    async with pool_of(2) as helpers:
        await helpers.acquire()
        busy, hung = await ready_members(helpers, 2)
        working = asyncio.ensure_future(busy.handle.work.remote(2 * silence.TURNS * pool.PROBE_SECS))
        pid = await hung.handle.ready.remote()
        with halted(pid) as process:
            waiting = hung.handle.work.remote(0.0)
            with pytest.raises(ray.exceptions.ActorDiedError) as raised:
                await asyncio.wait_for(waiting, 60)
            helpers.release(hung, raised.value)
            await asyncio.to_thread(process.wait, 30)
        await working
        assert await ready_members(helpers, 2) == [busy, helpers._members[1]]
        assert hung not in helpers._members
        assert helpers.replaced == 1


async def test_whoever_is_cancelled_gives_its_actor_back() -> None:
    """At any moment, and twice: a load that stays would keep an actor from work for ever."""
    async with pool_of(1) as helpers:
        extractors, writers = extractors_of(helpers), ports.RayWriters(helpers)
        helpers.release(member := await helpers.acquire())
        for turns in range(8):
            for call in (extractors.extract, writers.open):
                task = asyncio.create_task(call(anything()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                async with helpers._changed:  # whoever has to wait for it to give back would wait here
                    task.cancel()
                    await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.sleep(0)
                with suppress(asyncio.CancelledError):
                    await task
        assert (member.load, helpers._waiting) == (0, 0)


async def test_one_with_more_calls_than_slots_is_not_taken_for_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PROBE_SECS", 0.1)
    async with pool_of(1) as helpers:
        busy = await helpers.acquire()
        calls = [asyncio.ensure_future(busy.handle.open.remote(None)) for _ in range(pool.CALLS_PER_ACTOR + 6)]
        await until_seen(busy.handle, lambda begun, _: begun == pool.CALLS_PER_ACTOR)
        probes = {busy.probe}
        while len(probes) <= 2 * silence.TURNS and not helpers.replaced:
            await until(lambda: busy.probe not in probes or helpers.replaced)
            probes.add(busy.probe)
        assert (helpers.replaced, helpers._members) == (0, [busy])
        for call in calls[pool.CALLS_PER_ACTOR :]:
            call.cancel()
        busy.handle.let_go.remote()


async def test_one_whose_loop_stands_still_is_hung_though_its_process_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PROBE_SECS", 0.1)
    async with pool_of(1) as helpers:
        hung = await helpers.acquire()
        with pytest.raises(ray.exceptions.ActorDiedError):
            await asyncio.wait_for(hung.handle.block.remote(60.0), 50)
        assert helpers.replaced == 1


async def test_whoever_is_cancelled_as_it_opens_a_partition_leaves_none_behind() -> None:
    async with pool_of(1) as helpers:
        helpers.release(member := await helpers.acquire())
        opening = asyncio.create_task(ports.RayWriters(helpers).open(anything()))
        await until_seen(member.handle, lambda begun, _: begun == 1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert member.load == 0
        await member.handle.let_go.remote()
        await until_seen(member.handle, lambda _, discarded: discarded == [7])


async def until_seen(handle: Any, holds: Callable[[int, list[int]], bool]) -> None:
    """Wait for what an actor of kind :class:`Plain` has seen."""
    async with asyncio.timeout(60):
        while True:
            if holds(*await handle.seen.remote()):
                return
            await asyncio.sleep(0.02)


def extractors_of(helpers: Pool) -> ports.RayExtractors:
    return ports.RayExtractors(Crew(helpers, Bounds(helpers.size, helpers.size, 60.0)), 1, 10)


def anything() -> Any:
    return RangeTask(1, 0, Span(0, 1), ("blocks",), "nobody", "devnet")
