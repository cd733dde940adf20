"""Sources stay open between tasks, and follow their provider's file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from ampd_ray.errors import NotFound, ProviderUnreachable
from ampd_ray.materialize.sources import Sources


@dataclass(eq=False)
class Source:
    """A source that notes what happens to it; ``gate`` holds up its opening."""

    address: str
    closed: int = 0
    gate: asyncio.Event | None = None
    error: Exception | None = None

    async def start(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed += 1

    chain: int | None = None
    fetch: Any = None
    stats: Any = None
    use: Any = None
    held: bool = False
    full: bool = False


@dataclass
class World:
    """One provider file, which may change, be unreadable, or name a node that is down."""

    address: str = "a"
    unreadable: bool = False
    down: bool = False
    gate: asyncio.Event | None = None
    opened: list[Source] = field(default_factory=list)
    opening: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self, provider: str) -> str:
        if self.unreadable:
            raise NotFound(f"there is no provider {provider}")
        return self.address

    def open_source(self, provider: str, network: str) -> Source:
        error = ProviderUnreachable("down") if self.down else None
        self.opening.set()
        self.opened.append(Source(self.address, gate=self.gate, error=error))
        return self.opened[-1]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def sources(world: World) -> Sources:
    return Sources(world.open_source, world.told)


async def use(sources: Sources, provider: str = "p", network: str = "n") -> Any:
    async with sources.use(provider, network) as source:
        return source


async def test_tasks_share_one_source_for_each_provider_and_network(world: World, sources: Sources) -> None:
    first, second = await asyncio.gather(use(sources), use(sources))
    assert first is second is await use(sources)
    assert await use(sources, network="m") is not first
    assert await use(sources, provider="q") is not first
    await sources.close()
    assert [source.closed for source in world.opened] == [1, 1, 1]


async def test_a_changed_file_holds_for_the_next_task(world: World, sources: Sources) -> None:
    await use(sources)
    world.address = "b"
    assert (await use(sources)).address == "b"
    assert [source.closed for source in world.opened] == [1, 0]


async def test_a_task_at_work_keeps_its_source_until_it_is_done(world: World, sources: Sources) -> None:
    async with sources.use("p", "n") as old:
        world.address = "b"
        async with sources.use("p", "n") as new:
            assert (old, new) == tuple(world.opened)
            assert world.opened[0].closed == 0
        assert world.opened[0].closed == 0
    assert [source.closed for source in world.opened] == [1, 0]


async def test_while_the_file_cannot_be_read_what_is_open_goes_on(world: World, sources: Sources) -> None:
    source = await use(sources)
    world.unreadable = True
    assert await use(sources) is source
    with pytest.raises(NotFound):
        await use(sources, provider="q")
    world.unreadable = False
    assert await use(sources) is source


async def test_a_failed_opening_is_tried_again_by_the_next_task(world: World, sources: Sources) -> None:
    world.down = True
    with pytest.raises(ProviderUnreachable):
        await use(sources)
    assert world.opened[0].closed == 1
    world.down = False
    assert await use(sources) is world.opened[1]


async def test_a_cancelled_task_leaves_the_opening_to_the_others(world: World, sources: Sources) -> None:
    world.gate = asyncio.Event()
    first, second = asyncio.create_task(use(sources)), asyncio.create_task(use(sources))
    await world.opening.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    world.gate.set()
    assert await second is world.opened[0]
    assert (len(world.opened), world.opened[0].closed) == (1, 0)
