"""The receipts of blocks, by the best way that the provider knows (``spec/data.md`` 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ampd_ray.datasets.evm.rpc import RECEIPT, RECEIPTS, RpcBlock, RpcReceipt, full_transactions, quantity
from ampd_ray.errors import MethodMissing, ProviderError
from ampd_ray.providers.envelope import Call
from ampd_ray.providers.requests import Requester

Receipts = list[RpcReceipt | None]  # as answered: the checks put them in order and miss what is null


class ReceiptFetcher:
    """Asks by block hash; by number where the provider takes no hash; per transaction where it must. It remembers.

    By number, a block and its receipts may come from two branches; the check of every receipt's block hash finds that.
    """

    def __init__(self, requester: Requester, *, per_transaction: bool) -> None:
        self._requester = requester
        self._per_transaction = per_transaction
        self._by_hash = True

    async def fetch(self, blocks: Sequence[RpcBlock]) -> list[Receipts | ProviderError]:
        """The receipts as answered, or the error, of each block."""
        if self._per_transaction:
            return await self._of_transactions(blocks)
        by_hash = self._by_hash
        outcomes = await self._requester.many([_of_block(block, by_hash) for block in blocks])
        again = [i for i, outcome in enumerate(outcomes) if self._learn(outcome, by_hash)]
        if again:
            for i, outcome in zip(again, await self.fetch([blocks[i] for i in again]), strict=True):
                outcomes[i] = outcome
        return outcomes

    def _learn(self, outcome: Receipts | ProviderError, by_hash: bool) -> bool:
        """True if another way may work, which is then used from now on."""
        if isinstance(outcome, MethodMissing):
            self._per_transaction = True
            return True
        if by_hash and isinstance(outcome, ProviderError) and outcome.details.get("bad_params"):
            self._by_hash = False
            return True
        return False

    async def _of_transactions(self, blocks: Sequence[RpcBlock]) -> list[Receipts | ProviderError]:
        """One call per transaction of all blocks together, so that they share batches."""
        hashes = [[tx.hash or "" for tx in full_transactions(block)] for block in blocks]
        numbers = [quantity(block.number) for block in blocks]
        calls = [_of_transaction(tx, n) for n, of_block in zip(numbers, hashes, strict=True) for tx in of_block]
        outcomes = await self._requester.many(calls)
        results = iter(outcomes)
        return [_gather([next(results) for _ in of_block]) for of_block in hashes]


def _of_block(block: RpcBlock, by_hash: bool) -> Call[Receipts]:
    number = quantity(block.number)
    return Call("eth_getBlockReceipts", [block.hash if by_hash else hex(number)], _decode_all, number)


def _of_transaction(tx_hash: str, block: int) -> Call[RpcReceipt]:
    return Call("eth_getTransactionReceipt", [tx_hash], _decode_one, block)


def _decode_all(raw: msgspec.Raw) -> Receipts:
    return RECEIPTS.decode(raw) or []


def _decode_one(raw: msgspec.Raw) -> RpcReceipt:
    receipt = RECEIPT.decode(raw)
    if receipt is None:
        raise ValueError("null")
    return receipt


def _gather(results: Sequence[RpcReceipt | ProviderError]) -> Receipts | ProviderError:
    error = next((result for result in results if isinstance(result, ProviderError)), None)
    return error or [result for result in results if not isinstance(result, ProviderError)]
