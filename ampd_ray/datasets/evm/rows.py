"""The rows of the three tables as Python values, for verification. Fresh from decoding or read back from Parquet."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa

NANOSECONDS = 10**9


class HeaderRow(NamedTuple):
    """The columns of ``blocks`` that a block's hash covers, and the hash; ``timestamp`` in Unix seconds."""

    block_num: int
    hash: bytes
    timestamp: int
    parent_hash: bytes
    ommers_hash: bytes
    miner: bytes
    state_root: bytes
    transactions_root: bytes
    receipt_root: bytes
    logs_bloom: bytes
    difficulty: int
    gas_limit: int
    gas_used: int
    extra_data: bytes
    mix_hash: bytes
    nonce: int
    base_fee_per_gas: int | None
    withdrawals_root: bytes | None
    blob_gas_used: int | None
    excess_blob_gas: int | None
    parent_beacon_root: bytes | None
    requests_hash: bytes | None


class TransactionRow(NamedTuple):
    """The columns of ``transactions`` that the roots cover, and the sender."""

    block_num: int
    tx_index: int
    tx_hash: bytes
    sender: bytes
    to: bytes | None
    nonce: int
    gas_price: int | None
    gas_limit: int
    value: int
    input: bytes
    r: bytes
    s: bytes
    v_parity: bool
    chain_id: int | None
    gas_used: int
    type: int
    max_fee_per_gas: int | None
    max_priority_fee_per_gas: int | None
    max_fee_per_blob_gas: int | None
    status: bool
    state_root: bytes | None
    access_list: list[dict[str, Any]] | None
    blob_versioned_hashes: list[bytes] | None
    authorization_list: list[dict[str, Any]] | None


class LogRow(NamedTuple):
    """The columns of ``logs`` that the receipts root covers, and where the log stands."""

    block_num: int
    tx_index: int
    log_index: int
    address: bytes
    topic0: bytes | None
    topic1: bytes | None
    topic2: bytes | None
    topic3: bytes | None
    data: bytes

    @property
    def topics(self) -> list[bytes]:
        """The topics that are there."""
        return [topic for topic in self[4:8] if topic is not None]


class BlockRows(NamedTuple):
    """One block of all three tables, transactions and logs in the order of their rows."""

    header: HeaderRow
    transactions: list[TransactionRow]
    logs: list[LogRow]


def block_rows(tables: dict[str, pa.Table]) -> list[BlockRows]:
    """The blocks of ``blocks`` with their transactions and logs. Raises ValueError for rows of no block."""
    headers = [HeaderRow(*values) for values in _values(tables["blocks"], HeaderRow._fields)]
    columns = tuple("from" if name == "sender" else name for name in TransactionRow._fields)
    transactions = _by_block([TransactionRow(*values) for values in _values(tables["transactions"], columns)])
    logs = _by_block([LogRow(*values) for values in _values(tables["logs"], LogRow._fields)])
    blocks = [BlockRows(h, transactions.pop(h.block_num, []), logs.pop(h.block_num, [])) for h in headers]
    if strays := sorted({*transactions, *logs}):
        raise ValueError(f"transactions or logs of block {strays[0]}, which is not in the table blocks")
    return blocks


def _by_block(rows: list[Any]) -> dict[int, list[Any]]:
    return {number: list(group) for number, group in groupby(rows, attrgetter("block_num"))}


def _values(table: pa.Table, names: tuple[str, ...]) -> Any:
    return zip(*(_column(table[name], name) for name in names), strict=True)


def _column(column: pa.ChunkedArray, name: str) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        return [nanoseconds // NANOSECONDS for nanoseconds in column.cast(pa.int64()).to_pylist()]
    values = column.to_pylist()
    if pa.types.is_decimal(column.type) or name == "value":
        return [None if value is None else int(value) for value in values]
    return list(values)
