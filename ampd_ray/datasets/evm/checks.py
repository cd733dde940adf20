"""Is what a node answered one consistent block? The checks of ``spec/data.md`` 2.3.

Each check compares whole lists first, which is nearly free where they agree, and looks for the culprit only where
they do not. Level ``basic`` leaves out what needs Ethereum's roots, blooms, gas sums and log numbering: some
rollups do not follow them. What single chains break by nature is in :mod:`~ampd_ray.datasets.evm.quirks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from operator import attrgetter

from ampd_ray.datasets.evm.findings import Findings, lower
from ampd_ray.datasets.evm.header_checks import HeaderCheck, says_empty
from ampd_ray.datasets.evm.quirks import STATE_SYNCED, Level, Rule, demanded
from ampd_ray.datasets.evm.rpc import (
    BlockAndReceipts,
    RpcBlock,
    RpcGlance,
    RpcLog,
    RpcReceipt,
    RpcTransaction,
    counting,
    full_transactions,
    in_order,
)

_owner = attrgetter("block_hash", "block_number", "transaction_hash", "transaction_index")


def needs_receipts(block: RpcBlock | RpcGlance, level: Level = "strict", chain_id: int | None = None) -> bool:
    """False for a block without transactions whose roots both say so (data.md 2.2).

    Where its roots say otherwise, only those ask who do not go by roots; ``strict`` has no use for the answer,
    :func:`check` refuses.
    """
    if block.transactions:
        return True
    return Rule.EMPTY_ROOTS not in demanded(level, chain_id) and not says_empty(block)


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
    rules = demanded(level, chain_id)
    return _Check(block, requested, network, rules, state_synced=chain_id in STATE_SYNCED).run(receipts)


class _Check:
    """Checks 1 to 7 of one block, and then what its header says about all of it."""

    def __init__(
        self, block: RpcBlock, requested: int, network: str, rules: frozenset[Rule], *, state_synced: bool
    ) -> None:
        self._block = block
        self._state_synced = state_synced
        self._number = requested
        self._rules = rules
        self._found = Findings(network, requested)
        self._hash = lower(block.hash)

    def run(self, answered: Sequence[RpcReceipt | None] | None) -> BlockAndReceipts:
        self._numbered()
        transactions = full_transactions(self._block)
        receipts = self._counted(transactions, answered)
        if receipts:
            self._agree(transactions, receipts)
        header = HeaderCheck(self._block, self._rules, self._found, state_synced=self._state_synced)
        header.run(transactions, receipts)
        return BlockAndReceipts(self._block, receipts)

    def _agree(self, transactions: list[RpcTransaction], receipts: list[RpcReceipt]) -> None:
        self._paired(transactions, receipts)
        self._one_branch(transactions, receipts)
        self._logs_belong(receipts)
        logs = list(chain.from_iterable(receipt.logs or () for receipt in receipts))
        self._log_indexes(logs)
        if any(log.removed for log in logs):
            self._found.reorged(7, "a log is marked as removed")

    def _numbered(self) -> None:
        number = self._found.quantity(1, self._block.number, "number")
        if number != self._number:
            self._found.fault(1, f"the node sent block {number} instead")
        if not self._hash:
            self._found.fault(1, "the block has no hash (pending?)")

    def _counted(
        self, transactions: list[RpcTransaction], answered: Sequence[RpcReceipt | None] | None
    ) -> list[RpcReceipt]:
        if answered is None and (transactions or not (Rule.EMPTY_ROOTS in self._rules or says_empty(self._block))):
            self._found.fault(2, f"no receipts (null) for {_many(transactions, 'transaction')}")
        receipts = [receipt for receipt in answered or () if receipt is not None]
        if len(receipts) != len(transactions):
            self._found.fault(2, f"{_many(receipts, 'receipt')} for {_many(transactions, 'transaction')}")
        return in_order(receipts)

    def _paired(self, transactions: list[RpcTransaction], receipts: list[RpcReceipt]) -> None:
        ours, theirs = [tx.hash for tx in transactions], [receipt.transaction_hash for receipt in receipts]
        if ours != theirs or None in ours:
            for index, (tx_hash, receipt_hash) in enumerate(zip(ours, theirs, strict=True)):
                if not tx_hash or lower(tx_hash) != lower(receipt_hash):
                    self._found.fault(3, f"transaction {index} is {tx_hash}, its receipt is that of {receipt_hash}")
        positions = [receipt.transaction_index for receipt in receipts]
        if Rule.POSITIONS in self._rules and positions != counting(len(positions)):
            for index, position in enumerate(positions):
                if position is not None and self._found.quantity(3, position, "transactionIndex") != index:
                    self._found.fault(3, f"the receipt of transaction {index} is numbered {position}", Rule.POSITIONS)

    def _one_branch(self, transactions: list[RpcTransaction], receipts: list[RpcReceipt]) -> None:
        named = {tx.block_hash for tx in transactions} | {receipt.block_hash for receipt in receipts}
        for block_hash in named - {self._block.hash}:
            self._of_this_block(block_hash)

    def _of_this_block(self, block_hash: str | None) -> None:
        if block_hash is None:
            self._found.fault(4, "a transaction, receipt or log has no blockHash")
        if lower(block_hash) != self._hash:
            self._found.reorged(4, f"the block is {self._hash}, its transactions or receipts are of {block_hash}")

    def _logs_belong(self, receipts: list[RpcReceipt]) -> None:
        block_hash, number = self._block.hash, self._block.number
        for index, receipt in enumerate(receipts):
            if receipt.logs is None:
                self._found.fault(5, f"the receipt of transaction {index} has no list of logs")
            expected = (block_hash, number, receipt.transaction_hash, receipt.transaction_index)
            if any(map(expected.__ne__, map(_owner, receipt.logs))):
                for log in receipt.logs:
                    self._log_belongs(log, receipt, index)

    def _log_belongs(self, log: RpcLog, receipt: RpcReceipt, index: int) -> None:
        self._of_this_block(log.block_hash)
        if lower(log.transaction_hash) != lower(receipt.transaction_hash):
            self._found.fault(5, f"a log in the receipt of transaction {index} is of {log.transaction_hash}")
        own = self._found.quantity(5, log.transaction_index, "transactionIndex of a log")
        if own != self._found.quantity(5, receipt.transaction_index, f"transactionIndex of receipt {index}"):
            self._found.fault(5, f"a log in the receipt of transaction {index} says transaction {own}")
        if self._found.quantity(5, log.block_number, "blockNumber of a log") != self._number:
            self._found.fault(5, f"a log of transaction {index} is of block {log.block_number}")

    def _log_indexes(self, logs: list[RpcLog]) -> None:
        spelled = [log.log_index for log in logs]
        if spelled == counting(len(logs)):
            return
        indexes = [self._found.quantity(6, index, "logIndex") for index in spelled]
        if any(later <= earlier for earlier, later in pairwise(indexes)):
            self._found.fault(6, "logIndex does not increase: logs are reordered or repeated")
        if Rule.LOG_NUMBERS in self._rules and indexes != list(range(len(indexes))):
            reason = f"logIndex does not count from 0 to {len(indexes) - 1}: logs are missing"
            self._found.fault(6, reason, Rule.LOG_NUMBERS)


def _many(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
