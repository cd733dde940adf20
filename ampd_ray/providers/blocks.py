"""Blocks with their receipts, in two calls each (``spec/data.md`` 2.2): as text, or parsed and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from ampd_ray.datasets.evm.checks import check, needs_receipts
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts, BlockText, RpcBlock, RpcGlance, quantity
from ampd_ray.errors import DataFault, MethodMissing, ProviderError
from ampd_ray.providers.calls import block_call, is_hash, text_call
from ampd_ray.providers.failures import UNREADABLE
from ampd_ray.providers.receipts import ReceiptFetcher, Receipts
from ampd_ray.providers.requests import Requester

Integrity = Literal["strict", "basic"]
Checked: TypeAlias = BlockAndReceipts | ProviderError


class BlockFetcher:
    """Fetches blocks of one network. ``chain_id`` says what its blocks break by nature, once it is known."""

    def __init__(self, requester: Requester, receipts: ReceiptFetcher, network: str, level: Integrity) -> None:
        self.chain_id: int | None = None
        self._requester = requester
        self._receipts = receipts
        self._network = network
        self._level = level

    async def texts(self, numbers: Sequence[int]) -> list[BlockText | Checked]:
        """The answers as they came, or the error, of each number; checked blocks where receipts come one by one."""
        if self._receipts.per_transaction:
            return [*await self.checked(numbers)]
        found: dict[int, BlockText | Checked] = {}
        with_receipts: dict[int, tuple[RpcGlance, BlockText]] = {}
        blocks = await self._requester.many([text_call(number) for number in numbers])
        for number, block in zip(numbers, blocks, strict=True):
            if isinstance(block, ProviderError):
                found[number] = block
                continue
            found[number] = text = BlockText(number, block.text)
            if self._has_receipts(block.glance, number, hashes_only=block.glance.hashes_only):
                with_receipts[number] = block.glance, text
                block.glance.transactions = None  # may be far more than the text
        receipts = await self._receipts.texts([glance for glance, _ in with_receipts.values()])
        for (number, (_, text)), outcome in zip(with_receipts.items(), receipts, strict=True):
            found[number] = outcome if isinstance(outcome, ProviderError) else BlockText(number, text.block, outcome)
        missing = [number for number, outcome in found.items() if isinstance(outcome, MethodMissing)]
        found.update(zip(missing, await self.checked(missing) if self._receipts.per_transaction else [], strict=False))
        return [found[number] for number in numbers]

    async def checked(self, numbers: Sequence[int]) -> list[Checked]:
        """The checked block or the error of each number."""
        found: dict[int, Checked] = {}
        with_receipts: dict[int, RpcBlock] = {}
        blocks = await self._requester.many([block_call(number) for number in numbers])
        for number, block in zip(numbers, blocks, strict=True):
            if isinstance(block, ProviderError):
                found[number] = block
            elif self._has_receipts(block, number, hashes_only=_has_hashes(block)):
                with_receipts[number] = block
            else:
                found[number] = self._check(number, block, None)
        receipts = await self._receipts.fetch(list(with_receipts.values()))
        for (number, block), outcome in zip(with_receipts.items(), receipts, strict=True):
            found[number] = outcome if isinstance(outcome, ProviderError) else self._check(number, block, outcome)
        return [found[number] for number in numbers]

    def read(self, text: BlockText) -> Checked | None:
        """Parse and check what came as text; None if it cannot be parsed."""
        try:
            block = BLOCK.decode(text.block)
            assert block is not None, "null is no text"
            receipts = None if text.receipts is None else RECEIPTS.decode(text.receipts) or []
        except (*UNREADABLE, ValueError):
            return None
        return self._check(text.number, block, receipts)

    def _has_receipts(self, block: RpcBlock | RpcGlance, number: int, *, hashes_only: bool) -> bool:
        """Whether receipts are to be asked for; of a block that is unusable without them the check says why."""
        try:
            usable = quantity(block.number) == number and is_hash(block.hash) and not hashes_only
        except ValueError:
            usable = False
        return usable and needs_receipts(block, self._level, self.chain_id)

    def _check(self, number: int, block: RpcBlock, receipts: Receipts | None) -> Checked:
        try:
            return check(block, receipts, number, self._network, self._level, self.chain_id)
        except ProviderError as error:
            return error
        except ValueError as error:
            return DataFault(
                f"{self._network} block {number}: a value is unreadable: {error}", block=number, check="values"
            )


def _has_hashes(block: RpcBlock) -> bool:
    return any(isinstance(tx, str) for tx in block.transactions or ())
