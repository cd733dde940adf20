"""A pool without Ray: no actor can be made, or none that is made can be called, or the Ray node of some leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import ray

from ampd_ray.actors import pool
from ampd_ray.actors.pool import Pool
from ampd_ray.errors import Unexpected


class Remote:
    """A method of an actor; ``trouble`` is raised as it is called, not as its answer is awaited."""

    def __init__(self, trouble: list[type[Exception]], calls: Counter[str], name: str, answer: Any = None):
        self._answers = answer
        self._trouble = trouble
        self._calls = calls
        self._name = name

    async def _answer(self) -> Any:
        return self._answers

    def remote(self, *args: Any) -> Any:
        self._calls[self._name] += 1
        if self._trouble:
            raise self._trouble[0]("no Ray")
        return self._answer()


class Handle:
    """An actor that answers, except while there is ``trouble``."""

    def __init__(self, trouble: list[type[Exception]], calls: Counter[str], ray_node: str):
        self.is_of_version = Remote(trouble, calls, "is_of_version")
        self.ready = Remote(trouble, calls, "ready")
        self.turns = Remote(trouble, calls, "turns")
        self.leave = Remote(trouble, calls, "leave")
        self.stands_on = Remote(trouble, calls, "stands_on", ray_node)


class Site:
    """Makes actors, in as far as Ray lets it."""

    def __init__(self) -> None:
        self.at_making: list[type[Exception]] = []
        self.at_calling: list[type[Exception]] = []
        self.calls = Counter[str]()
        self.ray_node = "stays"

    def kill(self, handle: Handle) -> None:
        self.calls["kill"] += 1
        raise ValueError("no Ray")

    def make(self, beside: bool) -> Handle:
        self.calls["make"] += 1
        if self.at_making:
            raise self.at_making[0]("no Ray")
        return Handle(self.at_calling, self.calls, self.ray_node)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(pool, "RESTART_PAUSE_SECS", 0.0)
    monkeypatch.setattr(pool, "PROBE_SECS", 0.0)
    made = Site()
    monkeypatch.setattr(ray, "kill", made.kill)
    return made


@pytest.mark.parametrize("where", ["at_making", "at_calling"])
async def test_all_who_wait_learn_that_no_actor_can_be_made(site: Site, where: str) -> None:
    getattr(site, where).append(ValueError)
    helpers = Pool("a helper", 2, site.make, eager=False)
    waiting = [asyncio.create_task(helpers.acquire()) for _ in range(3)]
    for outcome in await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30):
        assert isinstance(outcome, Unexpected)
    assert site.calls["make"] >= pool.MAX_FAILED_STARTS
    helpers.close()


async def test_those_who_wait_get_an_actor_once_there_is_one_again(site: Site) -> None:
    site.at_making.append(ValueError)
    helpers = Pool("a helper", 1, site.make, eager=True)
    waiting = asyncio.create_task(helpers.acquire())
    await site_has(site, "make", 2)
    site.at_making.clear()
    member = await asyncio.wait_for(waiting, 30)
    assert (member.ready, member.load) == (True, 1)
    helpers.close()


async def test_watching_goes_on_though_a_probe_cannot_be_sent(site: Site) -> None:
    helpers = Pool("a helper", 1, site.make, eager=True)
    member = await asyncio.wait_for(helpers.acquire(), 30)
    site.at_calling.append(ValueError)
    await site_has(site, "turns", site.calls["turns"] + 3)
    site.at_calling.clear()
    await site_has(site, "turns", site.calls["turns"] + 3)
    assert helpers._members == [member]
    helpers.close()


async def test_watching_goes_on_though_a_lost_actor_cannot_be_replaced_at_once(site: Site) -> None:
    helpers = Pool("a helper", 1, site.make, eager=True)
    lost = await asyncio.wait_for(helpers.acquire(), 30)
    site.at_making.append(ValueError)
    helpers._replace(lost, "no answer")
    await site_has(site, "make", 3)
    site.at_making.clear()
    await site_has(site, "turns", site.calls["turns"] + 3)
    assert (helpers.ready, helpers.replaced, site.calls["kill"]) == (1, 1, 1)
    helpers.close()


async def test_an_actor_whose_ray_node_leaves_ends_what_it_has_and_gets_no_more(site: Site) -> None:
    site.ray_node = "leaves"
    helpers = Pool("a helper", 1, site.make, eager=True)
    old = await asyncio.wait_for(helpers.acquire(), 30)
    site.ray_node = "stays"
    helpers.leave("leaves", 60.0)
    new = await asyncio.wait_for(helpers.acquire(), 30)
    await site_has(site, "leave", 1)
    assert new is not old
    assert old.leaving.is_set()
    assert site.calls["kill"] == 0
    helpers.leave("leaves", 30.0)  # it is told again, if its time gets shorter
    await site_has(site, "leave", 2)
    helpers.release(old)
    assert (site.calls["kill"], helpers._leaving, helpers.replaced) == (1, [], 0)
    assert await asyncio.wait_for(helpers.acquire(), 30) is new
    helpers.close()


async def test_an_actor_that_comes_up_on_a_ray_node_that_leaves_is_never_called(site: Site) -> None:
    helpers = Pool("a helper", 1, site.make, eager=True)
    site.ray_node = "leaves"
    helpers.leave("leaves", 60.0)
    waiting = asyncio.create_task(helpers.acquire())
    await site_has(site, "stands_on", 1)
    site.ray_node = "stays"
    member = await asyncio.wait_for(waiting, 30)
    assert (member.ray_node, member.leaving.is_set()) == ("stays", False)
    assert site.calls["kill"] >= 1
    helpers.close()


async def test_a_pool_that_settles_gives_no_more_calls_and_waits_for_those_under_way(site: Site) -> None:
    helpers = Pool("a helper", 1, site.make, eager=True)
    member = await asyncio.wait_for(helpers.acquire(), 30)
    settling = asyncio.create_task(helpers.settle(60.0))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(helpers.acquire())
    await site_has(site, "turns", site.calls["turns"] + 3)
    assert not settling.done()
    helpers.release(member)
    await asyncio.wait_for(settling, 30)
    assert (waiting.done(), member.load) == (False, 0)
    waiting.cancel()
    await helpers.settle(0.0)
    helpers.close()


async def test_an_actor_that_goes_with_its_ray_node_is_not_replaced_twice(site: Site) -> None:
    site.ray_node = "leaves"
    helpers = Pool("a helper", 1, site.make, eager=True)
    old = await asyncio.wait_for(helpers.acquire(), 30)
    site.ray_node = "stays"
    helpers.leave("leaves", 60.0)
    await asyncio.wait_for(helpers.acquire(), 30)
    helpers.release(old, ray.exceptions.WorkerCrashedError())
    assert (len(helpers._members), helpers._leaving, helpers.replaced, site.calls["make"]) == (1, [], 0, 2)
    helpers.close()


async def site_has(site: Site, name: str, times: int) -> None:
    """Wait until ``name`` was called so often in all."""
    async with asyncio.timeout(30):
        while True:
            if site.calls[name] >= times:
                return
            await asyncio.sleep(0)
