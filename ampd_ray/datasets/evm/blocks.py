"""The table ``blocks``: one row a header (``spec/data.md`` 1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from ampd_ray.datasets.evm import columns
from ampd_ray.datasets.evm.place import Columns, Place, number_of
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, Quantity, RpcBlock
from ampd_ray.datasets.evm.schemas import BLOCKS, TIMESTAMP

NANOSECONDS = 10**9
_LAST_SECOND = np.iinfo(np.int64).max // NANOSECONDS
_NO_HASH = "0x" + 64 * "0"

hashes = partial(columns.fixed, width=32)
addresses = partial(columns.fixed, width=20)


def u64(values: Sequence[Quantity]) -> pa.Array:
    """UInt64, no nulls. Raises ColumnError."""
    return pa.array(columns.u64(values))


class Headers:
    """The header columns that all three tables copy, of blocks in ascending order. Raises DataFault, ValueOverflow."""

    def __init__(self, blocks: Sequence[BlockAndReceipts], network: str) -> None:
        headers = [block.block for block in blocks]
        self.blocks = blocks
        self.network = network
        self.columns = Columns(lambda i: Place(network, number_of(headers[i])))
        self.numbers = self.columns.column("number", columns.u64, [header.number for header in headers])
        self.seconds = self.columns.column("timestamp", _seconds, headers)
        self.hashes = self.columns.column("hash", columns.raw, [header.hash for header in headers], 32)

    def numbered(self, times: Sequence[int]) -> pa.Array:
        """The block number, each repeated ``times``."""
        return pa.array(np.repeat(self.numbers, times))

    def hashed(self, times: Sequence[int]) -> pa.Array:
        """The block hash, each repeated ``times``."""
        return columns.fixed_array(np.repeat(self.hashes, times, axis=0))

    def timed(self, times: Sequence[int]) -> pa.Array:
        """The timestamp, each repeated ``times``."""
        nanoseconds = np.repeat(self.seconds.astype(np.int64) * NANOSECONDS, times)
        return pa.Array.from_buffers(TIMESTAMP, len(nanoseconds), [None, pa.py_buffer(nanoseconds)])


def _seconds(headers: Sequence[RpcBlock]) -> columns.U64s:
    values = [header.timestamp for header in headers]
    seconds = columns.u64(values)
    late = np.flatnonzero(seconds > _LAST_SECOND)
    if late.size:
        raise columns.overflow(int(late[0]), values[int(late[0])], "Timestamp(ns)")
    return seconds


def decode_blocks(headers: Headers) -> pa.Table:
    """One row for each block, the schema of data.md 1.3. Raises DataFault and ValueOverflow."""
    rows = [block.block for block in headers.blocks]
    once = [1] * len(rows)
    column = headers.columns.column

    def nullable(field: str, build: columns.Build, values: Sequence[Quantity]) -> pa.Array:
        return column(field, columns.present, len(rows), build, values)

    arrays = [
        headers.numbered(once),
        headers.numbered(once),
        headers.timed(once),
        headers.hashed(once),
        column("parentHash", hashes, [row.parent_hash for row in rows]),
        column("sha3Uncles", hashes, [row.sha3_uncles for row in rows]),
        column("miner", addresses, [row.miner for row in rows]),
        column("stateRoot", hashes, [row.state_root for row in rows]),
        column("transactionsRoot", hashes, [row.transactions_root for row in rows]),
        column("receiptsRoot", hashes, [row.receipts_root for row in rows]),
        column("logsBloom", _blooms, [row.logs_bloom for row in rows]),
        column("difficulty", columns.decimal, [row.difficulty for row in rows]),
        nullable("totalDifficulty", columns.decimal, [row.total_difficulty for row in rows]),
        column("gasLimit", u64, [row.gas_limit for row in rows]),
        column("gasUsed", u64, [row.gas_used for row in rows]),
        column("extraData", columns.binary, [row.extra_data for row in rows]),
        column("mixHash", hashes, [_NO_HASH if row.mix_hash is None else row.mix_hash for row in rows]),
        column("nonce", u64, ["0x0" if row.nonce is None else row.nonce for row in rows]),
        nullable("baseFeePerGas", columns.decimal, [row.base_fee_per_gas for row in rows]),
        nullable("withdrawalsRoot", hashes, [row.withdrawals_root for row in rows]),
        nullable("blobGasUsed", u64, [row.blob_gas_used for row in rows]),
        nullable("excessBlobGas", u64, [row.excess_blob_gas for row in rows]),
        nullable("parentBeaconBlockRoot", hashes, [row.parent_beacon_block_root for row in rows]),
        nullable("requestsHash", hashes, [row.requests_hash for row in rows]),
    ]
    return pa.Table.from_arrays(arrays, schema=BLOCKS)


def _blooms(values: Sequence[str | None]) -> pa.Array:
    """256 bytes each, in a column of variable length."""
    matrix = columns.raw(values, 256)
    ends = np.arange(0, 256 * len(values) + 1, 256, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(ends), pa.py_buffer(matrix)])
