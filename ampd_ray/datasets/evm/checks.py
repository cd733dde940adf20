"""Is what a node answered one consistent block? The checks of ``spec/data.md`` 2.3.

Each check compares whole lists first, which is nearly free where they agree, and looks for the culprit only where
they do not. Level ``basic`` leaves out what needs Ethereum's roots, blooms, gas sums and log numbering: some
rollups do not follow them. What single chains break by nature is in :mod:`~ampd_ray.datasets.evm.quirks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from operator import attrgetter, gt
from typing import NoReturn

from ampd_ray.datasets.evm.blooms import NO_BLOOM, spelled_bloom
from ampd_ray.datasets.evm.hashing import EMPTY_ROOT
from ampd_ray.datasets.evm.quirks import Level, Rule, demanded, state_sync_hash
from ampd_ray.datasets.evm.rpc import (
    BlockAndReceipts,
    Quantity,
    RpcBlock,
    RpcLog,
    RpcReceipt,
    RpcTransaction,
    counting,
    full_transactions,
    in_order,
    quantity,
)
from ampd_ray.errors import DataFault, ReorgDuringFetch

_EMPTY_ROOT = "0x" + EMPTY_ROOT.hex()
_NOBODY = ("0x" + 40 * "0", "0X" + 40 * "0")

_owner = attrgetter("block_hash", "block_number", "transaction_hash", "transaction_index")


def needs_receipts(block: RpcBlock, level: Level = "strict", chain_id: int | None = None) -> bool:
    """False for a block without transactions whose roots both say so (data.md 2.2).

    Where its roots say otherwise, only those ask who do not go by roots; ``strict`` has no use for the answer,
    :func:`check` refuses.
    """
    if block.transactions:
        return True
    return Rule.EMPTY_ROOTS not in demanded(level, chain_id) and not _says_empty(block)


def check(
    block: RpcBlock,
    receipts: Sequence[RpcReceipt | None] | None,
    requested: int,
    network: str,
    level: Level = "strict",
    chain_id: int | None = None,
) -> BlockAndReceipts:
    """The block with its receipts in order, if checks 1 to 9 of data.md 2.3 pass at this level, on this chain.

    ``receipts`` are None where none were asked for (see :func:`needs_receipts`). Raises DataFault, and
    ReorgDuringFetch where block and receipts come from two branches; details hold network, block and check.
    """
    return _Check(block, requested, network, demanded(level, chain_id)).run(receipts)


class _Check:
    """The checks of one block; each method is one row of the table in data.md 2.3."""

    def __init__(self, block: RpcBlock, requested: int, network: str, rules: frozenset[Rule]) -> None:
        self._block = block
        self._number = requested
        self._network = network
        self._rules = rules
        self._hash = _lower(block.hash)

    def run(self, answered: Sequence[RpcReceipt | None] | None) -> BlockAndReceipts:
        self._numbered()
        transactions = full_transactions(self._block)
        receipts = self._counted(transactions, answered)
        if not receipts:
            self._empty()
            return BlockAndReceipts(self._block, [])
        self._paired(transactions, receipts)
        self._one_branch(transactions, receipts)
        self._logs_belong(receipts)
        logs = list(chain.from_iterable(receipt.logs or () for receipt in receipts))
        self._log_indexes(logs)
        if any(log.removed for log in logs):
            self._reorged(7, "a log is marked as removed")
        if self._rules:
            covered = self._covered(transactions, receipts)
            self._bloom(covered)
            self._gas(covered)
        return BlockAndReceipts(self._block, receipts)

    def _fault(self, number: int, reason: str, rule: Rule | None = None) -> NoReturn:
        raise DataFault(f"{self._network} block {self._number}: {reason}", **self._details(number, rule))

    def _reorged(self, number: int, reason: str) -> NoReturn:
        raise ReorgDuringFetch(
            f"{self._network} block {self._number}: {reason}; the chain moved between two calls",
            **self._details(number, None),
        )

    def _details(self, number: int, rule: Rule | None) -> dict[str, object]:
        facts: dict[str, object] = {"network": self._network, "block": self._number, "check": number}
        return facts if rule is None else facts | {"rule": rule.name}

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
        self, transactions: list[RpcTransaction], answered: Sequence[RpcReceipt | None] | None
    ) -> list[RpcReceipt]:
        if not transactions and Rule.EMPTY_ROOTS in self._rules and not _says_empty(self._block):
            reason = "no transactions, but its roots are not those of an empty block: the node lost the body"
            self._fault(2, reason, Rule.EMPTY_ROOTS)
        if answered is None and transactions:
            self._fault(2, f"no receipts (null) for {len(transactions)} transactions")
        receipts = [receipt for receipt in answered or () if receipt is not None]
        if len(receipts) != len(transactions):
            self._fault(2, f"{len(receipts)} receipts for {len(transactions)} transactions")
        return in_order(receipts)

    def _empty(self) -> None:
        """The bloom and gas of a block without transactions."""
        if self._rules and (self._block.logs_bloom, self._block.gas_used) != (NO_BLOOM, "0x0"):
            self._bloom([])
            self._gas([])

    def _paired(self, transactions: list[RpcTransaction], receipts: list[RpcReceipt]) -> None:
        ours, theirs = [tx.hash for tx in transactions], [receipt.transaction_hash for receipt in receipts]
        if ours != theirs or None in ours:
            for index, (tx_hash, receipt_hash) in enumerate(zip(ours, theirs, strict=True)):
                if not tx_hash or _lower(tx_hash) != _lower(receipt_hash):
                    self._fault(3, f"transaction {index} is {tx_hash}, its receipt is that of {receipt_hash}")
        positions = [receipt.transaction_index for receipt in receipts]
        if Rule.POSITIONS in self._rules and positions != counting(len(positions)):
            for index, position in enumerate(positions):
                if position is not None and self._quantity(3, position, "transactionIndex") != index:
                    self._fault(3, f"the receipt of transaction {index} says that it is {position}", Rule.POSITIONS)

    def _one_branch(self, transactions: list[RpcTransaction], receipts: list[RpcReceipt]) -> None:
        named = {tx.block_hash for tx in transactions} | {receipt.block_hash for receipt in receipts}
        for block_hash in named - {self._block.hash}:
            self._of_this_block(block_hash)

    def _of_this_block(self, block_hash: str | None) -> None:
        if block_hash is None:
            self._fault(4, "a transaction, receipt or log has no blockHash")
        if _lower(block_hash) != self._hash:
            self._reorged(4, f"the block is {self._hash}, its transactions or receipts are of {block_hash}")

    def _logs_belong(self, receipts: list[RpcReceipt]) -> None:
        block_hash, number = self._block.hash, self._block.number
        for index, receipt in enumerate(receipts):
            if receipt.logs is None:
                self._fault(5, f"the receipt of transaction {index} has no list of logs")
            expected = (block_hash, number, receipt.transaction_hash, receipt.transaction_index)
            if any(map(expected.__ne__, map(_owner, receipt.logs))):
                for log in receipt.logs:
                    self._log_belongs(log, receipt, index)

    def _log_belongs(self, log: RpcLog, receipt: RpcReceipt, index: int) -> None:
        self._of_this_block(log.block_hash)
        if _lower(log.transaction_hash) != _lower(receipt.transaction_hash):
            self._fault(5, f"a log in the receipt of transaction {index} is of {log.transaction_hash}")
        own = self._quantity(5, log.transaction_index, "transactionIndex of a log")
        if own != self._quantity(5, receipt.transaction_index, f"transactionIndex of receipt {index}"):
            self._fault(5, f"a log in the receipt of transaction {index} says transaction {own}")
        if self._quantity(5, log.block_number, "blockNumber of a log") != self._number:
            self._fault(5, f"a log of transaction {index} is of block {log.block_number}")

    def _log_indexes(self, logs: list[RpcLog]) -> None:
        spelled = [log.log_index for log in logs]
        if spelled == counting(len(logs)):
            return
        indexes = [self._quantity(6, index, "logIndex") for index in spelled]
        if any(later <= earlier for earlier, later in pairwise(indexes)):
            self._fault(6, "logIndex does not increase: logs are reordered or repeated")
        if Rule.LOG_NUMBERS in self._rules and indexes != list(range(len(indexes))):
            reason = f"logIndex does not count from 0 to {len(indexes) - 1}: logs are missing"
            self._fault(6, reason, Rule.LOG_NUMBERS)

    def _covered(self, transactions: list[RpcTransaction], receipts: list[RpcReceipt]) -> list[RpcReceipt]:
        """The receipts that the header's bloom and gas account for: all but a synthetic one."""
        if not any(tx.sender in _NOBODY and tx.to in _NOBODY for tx in transactions):
            return receipts
        try:
            block_hash = bytes.fromhex((self._hash or "").removeprefix("0x"))
        except ValueError:
            self._fault(1, f"hash {self._hash} is not hex data")
        synthetic = "0x" + state_sync_hash(self._number, block_hash).hex()
        return [receipt for receipt in receipts if _lower(receipt.transaction_hash) != synthetic]

    def _bloom(self, receipts: list[RpcReceipt]) -> None:
        logs = [log for receipt in receipts for log in receipt.logs or ()]
        entries = {log.address or "" for log in logs}
        entries.update(chain.from_iterable(log.topics or () for log in logs))
        try:
            made, given = spelled_bloom(entries), bytes.fromhex((_lower(self._block.logs_bloom) or "")[2:])
        except ValueError:
            self._fault(8, "logsBloom, or an address or topic of a log, is not hex data")
        if made == given:
            return
        if len(given) != len(made):
            self._fault(8, f"logsBloom has {len(given)} bytes")
        ours, theirs = int.from_bytes(made, "big"), int.from_bytes(given, "big")
        if theirs & ~ours and Rule.LOGS_COMPLETE in self._rules:
            self._fault(8, "the logs do not make the header's logsBloom: logs are missing", Rule.LOGS_COMPLETE)
        if ours & ~theirs and Rule.LOGS_KNOWN in self._rules:
            self._fault(8, "the header's logsBloom does not know all logs", Rule.LOGS_KNOWN)

    def _gas(self, receipts: list[RpcReceipt]) -> None:
        if Rule.GAS not in self._rules:
            return
        used = self._gas_of(receipts)
        if any(map(gt, used, used[1:])):
            self._fault(9, "cumulativeGasUsed falls", Rule.GAS)
        total, last = self._quantity(9, self._block.gas_used, "gasUsed"), used[-1] if used else 0
        if last != total:
            self._fault(9, f"the receipts use {last} gas, the header {total}", Rule.GAS)


    def _gas_of(self, receipts: list[RpcReceipt]) -> list[int]:
        spelled = [receipt.cumulative_gas_used for receipt in receipts]
        return [self._quantity(9, gas, f"cumulativeGasUsed of receipt {index}") for index, gas in enumerate(spelled)]


def _says_empty(block: RpcBlock) -> bool:
    roots = (block.transactions_root, block.receipts_root)
    return roots == (_EMPTY_ROOT, _EMPTY_ROOT) or {_lower(root) for root in roots} == {_EMPTY_ROOT}


def _lower(value: str | None) -> str | None:
    return value.lower() if value is not None else None
