"""Is what a node answered one consistent block? The checks of ``spec/data.md`` 2.3.

Each check compares whole lists first, which is nearly free where they agree, and looks for the culprit only where
they do not. Level ``basic`` leaves out what needs Ethereum's roots, blooms, gas sums and log numbering: some
rollups do not follow them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from typing import Literal, NoReturn

from ampd_ray.datasets.evm.hashing import EMPTY_ROOT, bloom_of
from ampd_ray.datasets.evm.quirks import state_sync_hash
from ampd_ray.datasets.evm.rpc import (
    BlockAndReceipts,
    Quantity,
    RpcBlock,
    RpcLog,
    RpcReceipt,
    RpcTransaction,
    full_transactions,
    in_order,
    quantity,
)
from ampd_ray.errors import DataFault, ReorgDuringFetch

Level = Literal["strict", "basic"]

_EMPTY_ROOT = "0x" + EMPTY_ROOT.hex()
_ZERO_ADDRESS = "0x" + 40 * "0"


def needs_receipts(block: RpcBlock, level: Level = "strict") -> bool:
    """False for a block without transactions whose roots both say so (data.md 2.2).

    Where its roots say otherwise, only ``basic`` asks; ``strict`` has no use for the answer, :func:`check` refuses.
    """
    return bool(block.transactions) or (level == "basic" and not _says_empty(block))


def _says_empty(block: RpcBlock) -> bool:
    return {_lower(block.transactions_root), _lower(block.receipts_root)} == {_EMPTY_ROOT}


def check(
    block: RpcBlock, receipts: Sequence[RpcReceipt | None] | None, requested: int, network: str, level: Level = "strict"
) -> BlockAndReceipts:
    """The block with its receipts in order, if checks 1 to 9 of data.md 2.3 pass at this level.

    ``receipts`` are None where none were asked for (see :func:`needs_receipts`). Raises DataFault, and
    ReorgDuringFetch where block and receipts come from two branches; details hold network, block and check.
    """
    return _Check(block, requested, network).run(receipts, level)


class _Check:
    """The checks of one block; each method is one row of the table in data.md 2.3."""

    def __init__(self, block: RpcBlock, requested: int, network: str) -> None:
        self._block = block
        self._number = requested
        self._network = network
        self._hash = _lower(block.hash)

    def run(self, answered: Sequence[RpcReceipt | None] | None, level: Level) -> BlockAndReceipts:
        self._numbered()
        transactions = full_transactions(self._block)
        receipts = self._counted(transactions, answered, level)
        self._paired(transactions, receipts)
        self._one_branch(transactions, receipts)
        self._logs_belong(receipts)
        logs = list(chain.from_iterable(receipt.logs or () for receipt in receipts))
        self._log_indexes(logs, level)
        if any(log.removed for log in logs):
            self._reorged(7, "a log is marked as removed")
        if level == "strict":
            covered = self._covered(transactions, receipts)
            self._bloom(covered)
            self._gas(covered)
        return BlockAndReceipts(self._block, receipts)

    def _fault(self, number: int, reason: str) -> NoReturn:
        raise DataFault(f"{self._network} block {self._number}: {reason}", **self._details(number))

    def _reorged(self, number: int, reason: str) -> NoReturn:
        raise ReorgDuringFetch(
            f"{self._network} block {self._number}: {reason}; the chain moved between two calls",
            **self._details(number),
        )

    def _details(self, number: int) -> dict[str, object]:
        return {"network": self._network, "block": self._number, "check": number}

    def _quantity(self, number: int, value: Quantity, field: str) -> int:
        try:
            return quantity(value)
        except ValueError as error:
            self._fault(number, f"{field} is {error}")

    def _numbered(self) -> None:
        number = self._quantity(1, self._block.number, "number")
        if number != self._number:
            self._fault(1, f"the node sent block {number} instead")
        if not self._hash:
            self._fault(1, "the block has no hash (pending?)")

    def _counted(
        self, transactions: list[RpcTransaction], answered: Sequence[RpcReceipt | None] | None, level: Level
    ) -> list[RpcReceipt]:
        if not transactions and level == "strict" and not _says_empty(self._block):
            self._fault(2, "no transactions, but its roots are not those of an empty block: the node lost the body")
        if answered is None and transactions:
            self._fault(2, f"no receipts (null) for {len(transactions)} transactions")
        receipts = [receipt for receipt in answered or () if receipt is not None]
        if len(receipts) != len(transactions):
            self._fault(2, f"{len(receipts)} receipts for {len(transactions)} transactions")
        return in_order(receipts)

    def _paired(self, transactions: list[RpcTransaction], receipts: list[RpcReceipt]) -> None:
        ours, theirs = [tx.hash for tx in transactions], [receipt.transaction_hash for receipt in receipts]
        if ours == theirs and None not in ours:
            return
        for index, (tx_hash, receipt_hash) in enumerate(zip(ours, theirs, strict=True)):
            if not tx_hash or _lower(tx_hash) != _lower(receipt_hash):
                self._fault(3, f"transaction {index} is {tx_hash}, its receipt is that of {receipt_hash}")

    def _one_branch(self, transactions: list[RpcTransaction], receipts: list[RpcReceipt]) -> None:
        named = {tx.block_hash for tx in transactions} | {receipt.block_hash for receipt in receipts}
        named.update(log.block_hash for receipt in receipts for log in receipt.logs or ())
        for block_hash in named - {self._block.hash}:
            if block_hash is None:
                self._fault(4, "a transaction, receipt or log has no blockHash")
            if _lower(block_hash) != self._hash:
                self._reorged(4, f"the block is {self._hash}, its transactions or receipts are of {block_hash}")

    def _logs_belong(self, receipts: list[RpcReceipt]) -> None:
        for index, receipt in enumerate(receipts):
            if receipt.logs is None:
                self._fault(5, f"the receipt of transaction {index} has no list of logs")
            expected = (receipt.transaction_hash, receipt.transaction_index, self._block.number)
            if {(log.transaction_hash, log.transaction_index, log.block_number) for log in receipt.logs} <= {expected}:
                continue
            for log in receipt.logs:
                self._log_belongs(log, receipt, index)

    def _log_belongs(self, log: RpcLog, receipt: RpcReceipt, index: int) -> None:
        if _lower(log.transaction_hash) != _lower(receipt.transaction_hash):
            self._fault(5, f"a log in the receipt of transaction {index} is of {log.transaction_hash}")
        own = self._quantity(5, log.transaction_index, "transactionIndex of a log")
        if own != self._quantity(5, receipt.transaction_index, f"transactionIndex of receipt {index}"):
            self._fault(5, f"a log in the receipt of transaction {index} says transaction {own}")
        if self._quantity(5, log.block_number, "blockNumber of a log") != self._number:
            self._fault(5, f"a log of transaction {index} is of block {log.block_number}")

    def _log_indexes(self, logs: list[RpcLog], level: Level) -> None:
        spelled = [log.log_index for log in logs]
        if spelled == _counting(len(logs)):
            return
        indexes = [self._quantity(6, index, "logIndex") for index in spelled]
        if any(later <= earlier for earlier, later in pairwise(indexes)):
            self._fault(6, "logIndex does not increase: logs are reordered or repeated")
        if level == "strict" and indexes != list(range(len(indexes))):
            self._fault(6, f"logIndex does not count from 0 to {len(indexes) - 1}: logs are missing")

    def _covered(self, transactions: list[RpcTransaction], receipts: list[RpcReceipt]) -> list[RpcReceipt]:
        """The receipts that the header's bloom and gas account for: all but a synthetic one."""
        senderless = [tx for tx in transactions if tx.sender == _ZERO_ADDRESS == tx.to]
        if not senderless:
            return receipts
        synthetic = "0x" + state_sync_hash(self._number, bytes.fromhex((self._hash or "")[2:])).hex()
        return [receipt for receipt in receipts if _lower(receipt.transaction_hash) != synthetic]

    def _bloom(self, receipts: list[RpcReceipt]) -> None:
        entries: set[str] = set()
        for receipt in receipts:
            for log in receipt.logs or ():
                entries.add(log.address or "")
                entries.update(log.topics or ())
        try:
            bloom = bloom_of(bytes.fromhex(entry[2:]) for entry in entries)
        except ValueError:
            self._fault(8, "an address or topic of a log is not hex data")
        if _lower(self._block.logs_bloom) != "0x" + bloom.hex():
            self._fault(8, "the logs do not make the header's logsBloom: logs are missing")

    def _gas(self, receipts: list[RpcReceipt]) -> None:
        used = [self._quantity(9, receipt.cumulative_gas_used, "cumulativeGasUsed") for receipt in receipts]
        if any(later < earlier for earlier, later in pairwise(used)):
            self._fault(9, "cumulativeGasUsed falls")
        total = self._quantity(9, self._block.gas_used, "gasUsed")
        if (used[-1] if used else 0) != total:
            self._fault(9, f"the receipts use {used[-1] if used else 0} gas, the header {total}")


@cache
def _counting(count: int) -> list[Quantity]:
    """The indexes from 0 as nodes spell them."""
    return [hex(index) for index in range(count)]


def _lower(value: str | None) -> str | None:
    return value.lower() if value is not None else None
