"""Blocks and receipts of one EVM network from one JSON-RPC provider (``spec/data.md`` 2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, BlockText, Take
from ampd_ray.errors import DataFault, ProviderError, ReorgDuringFetch, wrong_chain
from ampd_ray.providers.blocks import BlockFetcher, Checked, Integrity
from ampd_ray.providers.calls import CHAIN_ID, Head, head_call
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.http import HttpTransport
from ampd_ray.providers.ipc import ipc_transport
from ampd_ray.providers.limits import Limiter, Timing
from ampd_ray.providers.receipts import ReceiptFetcher
from ampd_ray.providers.registry import ProviderConfig
from ampd_ray.providers.requests import Requester, Transport
from ampd_ray.providers.stats import SourceStats
from ampd_ray.providers.window import GoOn, Window
from ampd_ray.providers.ws import ws_transport

__all__ = ["EvmRpcSource", "Head", "SourceStats", "Timing"]

AHEAD_BYTES = (
    96 * 1024 * 1024
)  # of JSON that a source asks for ahead of what is needed next, going by what came of late
MOST_AHEAD = 192  # parts, as what comes next may be larger
FULL = 0.8  # of that: what has just been answered takes a moment to be replaced
CAREFUL_SECS = 60.0  # after trouble with a block: blocks are parsed and checked as they come, and not taken as text


class EvmRpcSource:
    """A source of checked blocks. Calls may overlap; all of them pass one limiter.

    What the chain breaks by nature is known once :meth:`start` has asked for its id; until then it is held to all.
    ``integrity`` overrides the provider's own level. With ``expected_chain_id``, :meth:`start` refuses another chain.
    """

    def __init__(
        self,
        config: ProviderConfig,
        *,
        integrity: Integrity | None = None,
        expected_chain_id: int | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._timing = timing or Timing()
        self._network = config.network
        self._expected_chain_id = expected_chain_id
        self._endpoint = Endpoint.of(config)
        self._transport = open_transport(self._endpoint, config.timeout_secs)
        limiter = Limiter(config.rate_limit_per_minute, config.concurrent_request_limit, self._timing)
        self._requester = Requester(
            self._endpoint, self._transport, limiter, batch_size=config.rpc_batch_size, timing=self._timing
        )
        self._receipts = ReceiptFetcher(self._requester, per_transaction=config.fetch_receipts_per_tx)
        level: Integrity = integrity or config.ampd_ray.integrity
        self._blocks = BlockFetcher(self._requester, self._receipts, config.network, level)
        self._limiter = limiter
        self._window: Window = Window(self._parts_ahead)
        self._careful_until = float("-inf")

    @property
    def chain(self) -> int | None:
        """The id of the chain, as the provider said when it was started; None before."""
        return self._blocks.chain_id

    @property
    def batch_size(self) -> int:
        """Calls that go into one request now: less than configured after the provider refused so many."""
        return self._requester.batch_size

    @property
    def receipts_per_transaction(self) -> bool:
        """True if each receipt takes a call of its own: as configured, or as the provider has turned out to be."""
        return self._receipts.per_transaction

    async def start(self) -> None:
        """Make the first call. Raises ``WrongChain``, or a ``ProviderError`` if the provider cannot be used."""
        found = await self.chain_id()
        if self._expected_chain_id is not None and self._expected_chain_id != found:
            expected = self._expected_chain_id
            raise wrong_chain(self._endpoint.provider, self._network, found, expected, self._endpoint.host)
        self._blocks.chain_id = found

    async def chain_id(self) -> int:
        """What the provider says now. Raises ``ProviderError``."""
        return await self._requester.one(CHAIN_ID)

    async def head(self, tag: Literal["latest", "finalized"]) -> Head:
        """The block that the provider serves under ``tag``. Raises ``ProviderError``."""
        return await self._requester.one(head_call(tag))

    async def fetch(
        self, span: Span, take: Take | None = None, go_on: GoOn | None = None
    ) -> AsyncGenerator[BlockAndReceipts]:
        """The blocks of ``span`` in order as they come, checked, but for those that ``take`` takes as text.

        Once ``go_on`` says False no more is asked for: the blocks end with the last one that was.

        Raises the ``ProviderError`` of the first in trouble. Close the iterator (``contextlib.aclosing``) to end what
        is under way.
        """
        step = self._requester.batch_size
        parts = [range(first, min(first + step, span.end + 1)) for first in range(span.start, span.end + 1, step)]
        async with aclosing(self._window.in_order([partial(self._part, part) for part in parts], go_on)) as answers:
            async for found in answers:
                for number, answer in zip(parts.pop(0), found, strict=True):
                    if isinstance(answer, BlockText) and take is not None and take(answer):
                        continue
                    yield await self._settled(number, answer)
                await asyncio.sleep(0)  # what waits for the network goes on between two parts that are there

    def stats(self) -> SourceStats:
        """Counters since the source was made."""
        return self._requester.counters.snapshot()

    def use(self, share: float) -> None:
        """Keep to this part of the provider's limits."""
        self._limiter.use(share)

    @property
    def held(self) -> bool:
        """True while requests wait because the provider takes no more."""
        return self._limiter.held

    @property
    def full(self) -> bool:
        """True while as much is under way as one source may have, though the provider may take more."""
        return self._window.under_way >= FULL * self._most_ahead()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    def _parts_ahead(self) -> int:
        """Each part has a request in flight, and may wait for an earlier one."""
        return min(2 * self._limiter.allowed, self._most_ahead())

    def _most_ahead(self) -> int:
        """Those that wait take memory."""
        part_bytes = 2 * self._requester.counters.typical_bytes
        return min(MOST_AHEAD, int(AHEAD_BYTES / part_bytes))

    async def _part(self, numbers: Sequence[int]) -> list[BlockText | Checked]:
        """The answers of one part. If there was trouble of late it is settled here, side by side with other parts."""
        if self._timing.clock() >= self._careful_until:
            return await self._blocks.texts(numbers)
        blocks = await self._blocks.checked(numbers)
        return [await self._settled(number, block) for number, block in zip(numbers, blocks, strict=True)]

    async def _settled(self, number: int, answer: BlockText | Checked) -> BlockAndReceipts:
        """The block, checked. Raises the ``ProviderError`` that tries do not help against."""
        block = self._blocks.read(answer) if isinstance(answer, BlockText) else answer
        if isinstance(block, BlockAndReceipts):
            return block
        self._careful_until = self._timing.clock() + CAREFUL_SECS
        if block is None:  # its text may be more than the result: as a whole the answer may well be readable
            (block,) = await self._blocks.checked([number])
        return block if isinstance(block, BlockAndReceipts) else await self._fetch_again(number, block)

    async def _fetch_again(self, number: int, error: ProviderError) -> BlockAndReceipts:
        """Spaced tries after a fault of the data; any other error has had its tries."""
        faults = 0
        while True:
            delays = self._delays(error)
            if faults >= len(delays):
                raise self._named(error, faults + 1) if delays else error
            self._requester.counters.data_faults += 1
            self._requester.repeats.warn(
                error.code,
                f"fetching again: {error}",
                provider=self._endpoint.provider,
                host=self._endpoint.host,
                block=number,
            )
            await self._timing.sleep(delays[faults])
            faults += 1
            (fetched,) = await self._blocks.checked([number])
            if isinstance(fetched, BlockAndReceipts):
                return fetched
            error = fetched

    def _delays(self, error: ProviderError) -> tuple[float, ...]:
        if isinstance(error, DataFault):
            return self._timing.fault_delays
        return self._timing.reorg_delays if isinstance(error, ReorgDuringFetch) else ()

    def _named(self, error: ProviderError, tries: int) -> ProviderError:
        """A check knows the block; here come the provider and what to do."""
        if "host" in error.details:  # no check, but an answer that the requester could not read: it knows all that
            return type(error)(f"{error.message} Asked {tries} times.", **error.details | {"tries": tries})
        provider, host = self._endpoint.provider, self._endpoint.host
        return type(error)(
            f"{error.message.rstrip('.')} (provider {provider} at {host}, {tries} tries)."
            f"{' ' + error.ADVICE if isinstance(error, DataFault) else ''}",
            **{**error.details, "provider": provider, "host": host, "tries": tries},
        )


def open_transport(endpoint: Endpoint, timeout_secs: float) -> Transport:
    """The transport for the scheme of the url; it connects on first use."""
    if endpoint.scheme == "ipc":
        return ipc_transport(endpoint, timeout_secs)
    if endpoint.scheme in ("ws", "wss"):
        return ws_transport(endpoint, timeout_secs)
    return HttpTransport(endpoint, timeout_secs)
