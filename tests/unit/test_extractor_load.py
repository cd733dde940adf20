"""What an extractor says of itself: whether it has time, and whether a provider would take more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.materialize.extract import Extractor
from ampd_ray.materialize.types import Load, RangeTask


class Source:
    """Never answers."""

    chain = 1
    stats: Any = None

    def __init__(self, *, held: bool = False, full: bool = False) -> None:
        self.held = held
        self.full = full
        self.shares: list[float] = []
        self.asked = asyncio.Event()

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def use(self, share: float) -> None:
        self.shares.append(share)
        self.asked.set()

    async def fetch(self, span: Span, take: Any = None, go_on: Any = None) -> AsyncGenerator[BlockAndReceipts]:
        while True:
            await asyncio.Event().wait()
            yield BlockAndReceipts.__new__(BlockAndReceipts)


async def load_of(*sources: Source) -> Load:
    """What an extractor says that has a task at each of them."""
    extractor = Extractor(lambda provider, network: sources[int(provider)])
    extractor.load()
    async with AsyncExitStack() as stack:
        for number, source in enumerate(sources):
            task = RangeTask(1, 0, Span(0, 1), ("blocks",), str(number), "devnet", share=1 / 4)
            extracting = asyncio.create_task(extractor.extract(task))
            stack.callback(extracting.cancel)
            await source.asked.wait()
        assert all(source.shares == [1 / 4] for source in sources)
        return extractor.load()


@pytest.mark.parametrize(
    ("sources", "full", "room"),
    [
        pytest.param([], False, True, id="nothing to do"),
        pytest.param([Source()], False, True, id="something to do"),
        pytest.param([Source(full=True)], True, True, id="as much under way as there may be"),
        pytest.param([Source(held=True, full=True)], False, False, id="the provider takes no more"),
        pytest.param([Source(held=True), Source()], False, True, id="one of two takes no more"),
        pytest.param([Source(held=True), Source(held=True)], False, False, id="both take no more"),
    ],
)
async def test_it_says_what_holds_it_back(sources: list[Source], full: bool, room: bool) -> None:
    load = await load_of(*sources)
    assert (load.full, load.room) == (full, room)


async def test_it_says_which_part_of_its_time_it_computed() -> None:
    extractor = Extractor(lambda provider, network: Source())
    extractor.load()
    began = time.process_time()
    while time.process_time() - began < 0.1:
        pass
    busy = extractor.load().busy
    await asyncio.sleep(0.2)
    assert extractor.load().busy < busy <= 1.0
