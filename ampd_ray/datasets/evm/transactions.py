"""The table ``transactions``: header, transaction and receipt of each position (``spec/data.md`` 1.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampd_ray.datasets.evm import columns
from ampd_ray.datasets.evm.blocks import Headers, addresses, hashes, u64
from ampd_ray.datasets.evm.kinds import (
    ACCESS_LIST,
    BLOB,
    DYNAMIC_FEE,
    SET_CODE,
    chain_ids,
    lenient,
    one_flag,
    parities,
    types_of,
)
from ampd_ray.datasets.evm.nested import access_lists, authorization_lists, hash_lists
from ampd_ray.datasets.evm.place import Columns, Place, number_of
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, Quantity, RpcReceipt, RpcTransaction
from ampd_ray.datasets.evm.schemas import BOOL, I32, TRANSACTIONS, U64

T = TypeVar("T")


def decode_transactions(headers: Headers) -> pa.Table:
    """One row for each transaction, the schema of data.md 1.4. Raises DataFault and ValueOverflow."""
    per_block = [_paired(block, headers.network) for block in headers.blocks]
    times = [len(transactions) for transactions in per_block]
    rows = _Rows(headers, list(chain.from_iterable(per_block)), times)
    numbers = headers.numbered(times)
    arrays = {
        "_block_num": numbers,
        "block_hash": headers.hashed(times),
        "block_num": numbers,
        "timestamp": headers.timed(times),
        "tx_index": pa.array(rows.indexes),
        "type": pa.array(rows.types, I32),
        **_common(rows),
        **_signed(rows),
        **_fees(rows),
        **_lists(rows),
        **_outcome(rows, [receipt for block in headers.blocks for receipt in block.receipts]),
    }
    return pa.Table.from_arrays([arrays[name] for name in TRANSACTIONS.names], schema=TRANSACTIONS)


def _paired(block: BlockAndReceipts, network: str) -> list[RpcTransaction]:
    transactions = block.transactions
    if len(block.receipts) != len(transactions):
        reason = f"{len(block.receipts)} for {len(transactions)} transactions"
        raise Place(network, number_of(block.block)).fault("receipts", reason)
    return transactions


class _Rows:
    """The transactions of all blocks in order, those of unknown types made readable."""

    def __init__(self, headers: Headers, rows: list[RpcTransaction], times: Sequence[int]) -> None:
        self._network = headers.network
        self._numbers = np.repeat(headers.numbers, times)
        self.indexes = np.fromiter(chain.from_iterable(map(range, times)), np.uint32, len(rows))
        self.rows = rows
        self._columns = Columns(self._place)
        self.types = self.every("type", types_of, rows)
        self.kinds = np.array(self.types, np.int64)
        for index in np.flatnonzero(self.kinds > SET_CODE).tolist():
            rows[index] = lenient(rows[index])

    def _place(self, row: int) -> Place:
        return Place(self._network, int(self._numbers[row]), int(self.indexes[row]), self.rows[row].hash)

    def every(self, field: str, build: Callable[[Sequence[Any]], T], values: Sequence[Any]) -> T:
        """A column that every row has; ``field`` is its name in JSON, for errors."""
        return self._columns.column(field, build, values)

    def some(self, field: str, build: columns.Build, values: Sequence[Any]) -> pa.Array:
        """A column that is null where its value is None."""
        return self._columns.column(field, columns.present, len(values), build, values)

    def of(self, applies: npt.NDArray[np.bool_], column: str, field: str, build: columns.Build) -> pa.Array:
        """A column that only some types have, and those must have; null for the others."""
        chosen = np.flatnonzero(applies).tolist()
        if not chosen:
            return pa.nulls(len(self.rows), TRANSACTIONS.field(column).type)
        values = [getattr(self.rows[index], column) for index in chosen]
        return self._columns.column(field, columns.spread, chosen, len(self.rows), build, values)

    def highest_fees(self) -> pa.Array:
        """What each pays at most for its gas (data.md 1.4.1): that of types 0 and 1 is their gas price."""
        values = [
            tx.gas_price if kind < DYNAMIC_FEE else tx.max_fee_per_gas
            for kind, tx in zip(self.types, self.rows, strict=True)
        ]
        try:
            return columns.decimal(values)
        except columns.ColumnError as bad:
            field = "gasPrice" if self.types[bad.index] < DYNAMIC_FEE else "maxFeePerGas"
            raise self._place(bad.index).error(field, bad) from None


def _common(rows: _Rows) -> dict[str, pa.Array]:
    transactions = rows.rows
    rows.of((rows.kinds == BLOB) | (rows.kinds == SET_CODE), "to", "to", addresses)  # these cannot create
    return {
        "tx_hash": rows.every("hash", hashes, [tx.hash for tx in transactions]),
        "to": rows.some("to", addresses, [tx.to for tx in transactions]),
        "nonce": rows.every("nonce", u64, [tx.nonce for tx in transactions]),
        "gas_limit": rows.every("gas", u64, [tx.gas for tx in transactions]),
        "value": rows.every("value", columns.text, [tx.value for tx in transactions]),
        "input": rows.every("input", columns.binary, [tx.input for tx in transactions]),
        "from": rows.every("from", addresses, [tx.sender for tx in transactions]),
    }


def _signed(rows: _Rows) -> dict[str, pa.Array]:
    transactions = rows.rows
    return {
        "r": rows.every("r", columns.word, [tx.r for tx in transactions]),
        "s": rows.every("s", columns.word, [tx.s for tx in transactions]),
        "v_parity": pa.array(rows.every("v", parities, transactions), BOOL),
        "chain_id": pa.array(rows.every("chainId", lambda all_: chain_ids(all_, rows.types), transactions), U64),
    }


def _fees(rows: _Rows) -> dict[str, pa.Array]:
    """Fees by type (data.md 1.4.1); ``max_fee_per_gas`` is never null."""
    kinds, highest = rows.kinds, rows.highest_fees()
    tipped = (kinds >= DYNAMIC_FEE) & (kinds <= SET_CODE)
    for index in np.flatnonzero(kinds > SET_CODE).tolist():
        tipped[index] = rows.rows[index].max_priority_fee_per_gas is not None
    return {
        "gas_price": columns.where(kinds < DYNAMIC_FEE, highest),
        "max_fee_per_gas": highest,
        "max_priority_fee_per_gas": rows.of(
            tipped, "max_priority_fee_per_gas", "maxPriorityFeePerGas", columns.decimal
        ),
        "max_fee_per_blob_gas": rows.of(kinds == BLOB, "max_fee_per_blob_gas", "maxFeePerBlobGas", columns.decimal),
    }


def _lists(rows: _Rows) -> dict[str, pa.Array]:
    kinds = rows.kinds
    listing = (kinds >= ACCESS_LIST) & (kinds <= SET_CODE)
    return {
        "access_list": rows.of(listing, "access_list", "accessList", access_lists),
        "blob_versioned_hashes": rows.of(kinds == BLOB, "blob_versioned_hashes", "blobVersionedHashes", hash_lists),
        "authorization_list": rows.of(
            kinds == SET_CODE, "authorization_list", "authorizationList", authorization_lists
        ),
    }


def _outcome(rows: _Rows, receipts: list[RpcReceipt]) -> dict[str, pa.Array]:
    """From the receipts; ``gas_used`` is cumulative in the block. Status and root: data.md 1.4.2."""
    roots = [receipt.root if receipt.status is None else None for receipt in receipts]
    return {
        "gas_used": rows.every("cumulativeGasUsed", u64, [receipt.cumulative_gas_used for receipt in receipts]),
        "status": pa.array(rows.every("status", _statuses, receipts), BOOL),
        "state_root": rows.some("root", hashes, roots),
    }


def _statuses(receipts: Sequence[RpcReceipt]) -> list[bool]:
    """True where the receipt says 1, or only has the state root of a receipt before Byzantium. Raises ColumnError."""
    said, rooted = [receipt.status for receipt in receipts], [receipt.root is not None for receipt in receipts]
    return columns.distinct(list(zip(said, rooted, strict=True)), _status)


def _status(spelled: tuple[Quantity, bool], index: int) -> bool:
    status, has_root = spelled
    if status is None and has_root:
        return True
    return one_flag(status, index, "a status")
