"""The sources that an extractor keeps open: one for each provider and network, shared by tasks that overlap."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, Take
from ampd_ray.errors import AmpdError

logger = logging.getLogger(__name__)


class SourceStats(Protocol):
    """Counters of a source since it was opened."""

    @property
    def requests(self) -> int:
        """HTTP requests, or messages, sent."""

    @property
    def retries(self) -> int:
        """Those that repeated another one."""

    @property
    def bytes_received(self) -> int:
        """Bytes of their answers."""


class BlockSource(Protocol):
    """Where blocks come from: one provider of one network."""

    @property
    def chain(self) -> int | None:
        """The id of the chain that it serves; None before it is started."""

    async def start(self) -> None:
        """Open it and compare its chain id; raises ``WrongChain`` or a ``ProviderError``."""

    def fetch(
        self, span: Span, take: Take | None = None, go_on: Callable[[], bool] | None = None
    ) -> AsyncGenerator[BlockAndReceipts]:
        """The blocks of ``span`` in order as they come, each with its receipts, checked (``spec/data.md`` 2.3).

        But for those that ``take`` takes, as they were answered. They end early once ``go_on`` says False.
        """

    def stats(self) -> SourceStats:
        """Counters since it was opened."""

    def use(self, share: float) -> None:
        """Keep to this part of the provider's limits, from now on."""

    @property
    def held(self) -> bool:
        """True while requests wait because the provider takes no more."""

    @property
    def full(self) -> bool:
        """True while as much is under way as one source may have."""

    async def close(self) -> None:
        """Close its connections."""


OpenSource = Callable[[str, str], BlockSource]
Key = tuple[str, str]  # provider, network


@dataclass(eq=False)
class _Shared:
    """A source that is open or being opened, and what its provider's file said then."""

    told: object
    opening: asyncio.Task[BlockSource]
    users: int = 0

    @property
    def failed(self) -> bool:
        return self.opening.done() and (self.opening.cancelled() or self.opening.exception() is not None)

    async def close(self) -> None:
        if self.opening.done() and not self.failed:
            await self.opening.result().close()


def same_for_ever(provider: str) -> object:
    """A provider whose file never changes."""
    return None


class Sources:
    """Opens sources with ``open_source(provider, network)``, and anew once ``told(provider)`` says something else.

    So a new address, token or limit in a provider's file holds for the next task, also in a worker that runs on.
    """

    def __init__(self, open_source: OpenSource, told: Callable[[str], object]):
        self._open_source = open_source
        self._told = told
        self._shared: dict[Key, _Shared] = {}

    @asynccontextmanager
    async def use(self, provider: str, network: str) -> AsyncIterator[BlockSource]:
        """The source for a provider. A failed opening raises and is forgotten, so that the next task tries again."""
        key = (provider, network)
        told = await self._ask(key)
        shared, replaced = self._choose(key, told)
        shared.users += 1
        try:
            if replaced is not None and not replaced.users:
                await replaced.close()
            yield await asyncio.shield(shared.opening)
        finally:
            shared.users -= 1
            if shared.failed and self._shared.get(key) is shared:
                del self._shared[key]
            if not shared.users and self._shared.get(key) is not shared:
                await shared.close()

    def in_use(self) -> list[BlockSource]:
        """Those that are open and asked for something now."""
        return [
            one.opening.result() for one in self._shared.values() if one.users and one.opening.done() and not one.failed
        ]

    async def close(self) -> None:
        """Close all sources."""
        shared = list(self._shared.values())
        self._shared.clear()
        for one in shared:
            await one.close()

    async def _ask(self, key: Key) -> object:
        """What the provider's file says now; while it cannot be read, what is open is as good."""
        try:
            return await asyncio.to_thread(self._told, key[0])
        except AmpdError as error:
            if key not in self._shared:
                raise
            logger.warning("provider %s stays as it was: %s", key[0], error)
            return self._shared[key].told

    def _choose(self, key: Key, told: object) -> tuple[_Shared, _Shared | None]:
        """The source to use, and the one that it replaces now."""
        there = self._shared.get(key)
        if there is not None and there.told == told:
            return there, None
        if there is not None:
            logger.info("the file of provider %s has changed: opening it anew", key[0])
        self._shared[key] = _Shared(told, asyncio.create_task(self._start(*key)))
        return self._shared[key], there

    async def _start(self, provider: str, network: str) -> BlockSource:
        source = await asyncio.to_thread(self._open_source, provider, network)  # it reads the provider's file
        try:
            await source.start()
        except BaseException:
            await source.close()
            raise
        return source
