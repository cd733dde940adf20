"""The receipts of blocks, by the best way that the provider knows (``spec/data.md`` 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from ampd_ray.datasets.evm.rpc import RECEIPT, RECEIPTS, RpcBlock, RpcGlance, RpcReceipt, full_transactions, quantity
from ampd_ray.errors import BlockUnavailable, MethodMissing, ProviderError
from ampd_ray.providers.envelope import Call
from ampd_ray.providers.requests import Requester

T = TypeVar("T")

Receipts = list[RpcReceipt | None]  # as answered: the checks put them in order and miss what is null


class ReceiptFetcher:
    """Asks by block hash; by number where the provider knows no hash; per transaction where it must. It remembers.

    By number, a block and its receipts may come from two branches; the check of every receipt's block hash finds that.
    """

    def __init__(self, requester: Requester, *, per_transaction: bool) -> None:
        self.per_transaction = per_transaction
        self._requester = requester
        self._by_hash = True
        self._hash_worked = False

    async def fetch(self, blocks: Sequence[RpcBlock]) -> list[Receipts | ProviderError]:
        """The receipts as answered, or the error, of each block."""
        if self.per_transaction:
            return await self._of_transactions(blocks)
        outcomes = await self._of_blocks(blocks, _decode_all)
        missing = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, MethodMissing)]
        if missing:
            self.per_transaction = True
            _replace(outcomes, missing, await self._of_transactions([blocks[i] for i in missing]))
        return outcomes

    async def texts(self, blocks: Sequence[RpcGlance]) -> list[msgspec.Raw | ProviderError]:
        """The same as text; MethodMissing of a provider that has only receipts of transactions."""
        outcomes = await self._of_blocks(blocks, _text)
        self.per_transaction |= any(isinstance(outcome, MethodMissing) for outcome in outcomes)
        return outcomes

    async def _of_blocks(
        self, blocks: Sequence[RpcBlock | RpcGlance], decode: Callable[[msgspec.Raw], T]
    ) -> list[T | ProviderError]:
        """By hash, and at once by number where that finds nothing: a node may be unable to find by hash, or lag."""

        async def ask(some: Sequence[RpcBlock | RpcGlance], *, by_hash: bool) -> list[T | ProviderError]:
            return await self._requester.many([_of_block(block, decode, by_hash=by_hash) for block in some])

        if not self._by_hash:
            return await ask(blocks, by_hash=False)
        outcomes = await ask(blocks, by_hash=True)
        refused = [i for i, outcome in enumerate(outcomes) if _knows_no_hash(outcome)]
        self._hash_worked |= not all(isinstance(outcome, ProviderError) for outcome in outcomes)
        if refused:
            by_number = await ask([blocks[i] for i in refused], by_hash=False)
            _replace(outcomes, refused, by_number)
            if not self._hash_worked and not all(isinstance(outcome, ProviderError) for outcome in by_number):
                self._by_hash = False
        return outcomes

    async def _of_transactions(self, blocks: Sequence[RpcBlock]) -> list[Receipts | ProviderError]:
        """One call per transaction of all blocks together, so that they share batches."""
        hashes = [[(tx.hash or "")[:66] for tx in full_transactions(block)] for block in blocks]
        numbers = [quantity(block.number) for block in blocks]
        calls = [_of_transaction(tx, n) for n, of_block in zip(numbers, hashes, strict=True) for tx in of_block]
        outcomes = await self._requester.many(calls)
        results = iter(outcomes)
        return [_gather([next(results) for _ in of_block]) for of_block in hashes]


def _of_block(block: RpcBlock | RpcGlance, decode: Callable[[msgspec.Raw], T], *, by_hash: bool) -> Call[T]:
    number = quantity(block.number)
    key = block.hash if by_hash else hex(number)
    return Call("eth_getBlockReceipts", [key], decode, number, null_is_final=by_hash)


def _of_transaction(tx_hash: str, block: int) -> Call[RpcReceipt]:
    return Call("eth_getTransactionReceipt", [tx_hash], _decode_one, block)


def _text(raw: msgspec.Raw) -> msgspec.Raw:
    """Not parsed here. What does not even look like a list is not one, or more than that."""
    view = memoryview(raw)
    if view[:1].tobytes() + view[-1:].tobytes() != b"[]":
        raise ValueError("no list of receipts")
    return raw


def _decode_all(raw: msgspec.Raw) -> Receipts:
    return RECEIPTS.decode(raw) or []


def _decode_one(raw: msgspec.Raw) -> RpcReceipt:
    receipt = RECEIPT.decode(raw)
    if receipt is None:
        raise ValueError("null")
    return receipt


def _knows_no_hash(outcome: object) -> bool:
    if isinstance(outcome, BlockUnavailable):
        return True
    return isinstance(outcome, ProviderError) and outcome.details.get("bad_params", False)


def _replace(outcomes: list[T], places: Sequence[int], by: Sequence[T]) -> None:
    for place, outcome in zip(places, by, strict=True):
        outcomes[place] = outcome


def _gather(results: Sequence[RpcReceipt | ProviderError]) -> Receipts | ProviderError:
    error = next((result for result in results if isinstance(result, ProviderError)), None)
    return error or [result for result in results if not isinstance(result, ProviderError)]
