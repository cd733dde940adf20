"""Workers of one Ray cluster hear what the others need, whoever of them goes."""

from __future__ import annotations

import asyncio

import pytest
import ray

from ampd_ray.actors import commons
from ampd_ray.actors.commons import ClusterCommons
from ampd_ray.actors.placement import at, here
from ampd_ray.node.sharing import Needs
from tests.ray.conftest import until


async def told(worker: ClusterCommons, needs: Needs) -> None:
    """It has told, and heard."""
    worker.tell(needs)
    assert worker._telling is not None
    await asyncio.wait_for(worker._telling, 60)


async def test_workers_hear_each_other_and_outlive_whoever_made_the_commons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commons, "ANSWER_SECS", 60.0)
    north, south = (ClusterCommons(name, at(here())) for name in ("north", "south"))
    much, little = Needs(6, 12, {"mine": 7}), Needs(0, 1, {"mine": 1})
    await told(north, much)
    await told(south, little)
    await told(north, much)
    assert (north.others_at("mine"), south.others_at("mine"), south.others_at("other")) == (1, 7, 0)
    north.tell(much)
    assert (north.allowed, south.allowed) == (5, None)

    ray.kill(ray.get_actor(commons.NAME))  # as when the worker that made it ends
    assert north._telling is not None
    await asyncio.wait_for(north._telling, 60)

    async def heard() -> bool:
        await told(south, little)
        await told(north, much)
        return south.others_at("mine") == 7

    async with asyncio.timeout(60):
        while not await heard():
            pass
    assert ray.get_actor(commons.NAME)


async def test_a_worker_that_says_nothing_any_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commons, "FORGET_SECS", 0.0)
    actor = commons.CommonsActor()
    await actor.exchange("north", Needs(6, 12))
    assert await actor.exchange("south", Needs()) == {}


async def test_a_worker_that_hears_nothing_goes_by_its_own_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commons, "ANSWER_SECS", 0.0)
    north = ClusterCommons("north", at(here()))
    for _ in range(3):
        await told(north, Needs(6, 12))
    assert (north.allowed, north.others_at("mine")) == (None, 0)
    await until(lambda: north._telling is not None and north._telling.done())
