"""What inline verification takes from the node's answer because no table stores it (data.md 9.2-9.3, 1.4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ampd_ray.datasets.evm.columns import MAX_U256, ColumnError, one_binary, one_number
from ampd_ray.datasets.evm.consensus import Faults
from ampd_ray.datasets.evm.hashing import RlpItem, rlp_encode
from ampd_ray.datasets.evm.kinds import LEGACY, SET_CODE
from ampd_ray.datasets.evm.rows import Batch
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, RpcReceipt, RpcTransaction, quantity

DEPOSIT = 0x7E
"""The type of OP deposits."""

_DEPOSIT_COLUMNS = ["from", "to", "value", "gas_limit", "input"]


class Inline:
    """All that the answers to a batch of blocks add, by row of ``transactions``; with no answers, nothing.

    ``envelopes`` are those of OP deposits, ``extras`` the encoded fields that their receipts end with, ``chain_ids``
    those of authorizations. What is wrong with an answer is a fault of its row.
    """

    def __init__(self, batch: Batch, answers: Sequence[BlockAndReceipts] | None) -> None:
        self._batch = batch
        self._answers = answers
        self._transactions: dict[int, list[RpcTransaction]] = {}
        self.envelopes: dict[int, bytes] = {}
        self.extras: dict[int, bytes] = {}
        self.chain_ids: dict[int, list[int]] = {}
        self.faults: Faults = {}
        if answers is not None:
            types = batch.transactions.integers("type")
            self._types(np.flatnonzero((types < LEGACY) | (types > SET_CODE)).tolist(), types.tolist())
            self._deposits(np.flatnonzero(types == DEPOSIT).tolist())
            self._authorizations(np.flatnonzero(types == SET_CODE).tolist())

    @property
    def given(self) -> bool:
        """True if there are answers."""
        return self._answers is not None

    def roots(self, block: int) -> list[bytes | None]:
        """The state root of each receipt of a block that has a status too, so that the root is not stored."""
        if self._answers is None:
            return []
        return [_root(receipt) for receipt in self._answers[block].receipts]

    def _types(self, rows: list[int], types: list[int]) -> None:
        """A type that may not be hashed at all is at least the one that was sent."""
        for row in rows:
            try:
                if quantity(self._answer(row)[0].type) != types[row]:
                    self.faults[row] = "type is not what the node sent"
            except (IndexError, ValueError) as error:
                self.faults[row] = str(error)

    def _deposits(self, rows: list[int]) -> None:
        stored = self._batch.transactions.table.select(_DEPOSIT_COLUMNS).take(pa.array(rows, pa.int64())).to_pylist()
        for row, columns in zip(rows, stored, strict=True):
            try:
                transaction, receipt = self._answer(row)
                self.envelopes[row] = _deposit_envelope(columns, transaction)
                self.extras[row] = _deposit_extra(receipt)
            except ColumnError as error:
                self.faults[row] = f"sourceHash, mint, depositNonce or its version: {error.reason}"
            except (IndexError, ValueError) as error:
                self.faults[row] = str(error)

    def _authorizations(self, rows: list[int]) -> None:
        for row in rows:
            try:
                sent = self._answer(row)[0].authorization_list or []
                self.chain_ids[row] = [one_number(entry.chain_id, highest=MAX_U256) for entry in sent]
            except (IndexError, ColumnError) as error:
                self.faults[row] = str(error)

    def _answer(self, row: int) -> tuple[RpcTransaction, RpcReceipt]:
        block = int(self._batch.block_of_tx[row])
        answer, index = (self._answers or ())[block], row - int(self._batch.tx_starts[block])
        if block not in self._transactions:
            self._transactions[block] = answer.transactions
        return self._transactions[block][index], answer.receipts[index]


def _deposit_envelope(columns: dict[str, Any], answered: RpcTransaction) -> bytes:
    """What an OP deposit is hashed as."""
    source = one_binary(answered.source_hash, width=32)
    mint = 0 if answered.mint is None else one_number(answered.mint, highest=MAX_U256)
    value, gas, data = int(columns["value"]), columns["gas_limit"], columns["input"]
    system = int(bool(answered.is_system_tx))
    fields: list[RlpItem] = [source, columns["from"], columns["to"] or b"", mint, value, gas, system, data]
    return bytes([DEPOSIT]) + rlp_encode(fields)


def _deposit_extra(answered: RpcReceipt) -> bytes:
    """The fields that a deposit's receipt ends with since Canyon; before, a reported nonce is not encoded."""
    if answered.deposit_receipt_version is None:
        return b""
    return rlp_encode(one_number(answered.deposit_nonce)) + rlp_encode(one_number(answered.deposit_receipt_version))


def _root(answered: RpcReceipt) -> bytes | None:
    if answered.status is None:
        return None
    try:
        return one_binary(answered.root, width=32)
    except ColumnError:
        return None
