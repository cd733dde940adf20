"""The columns of the three tables as numpy sees them, for verification. Fresh from decoding or back from Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampd_ray.datasets.evm.rlp_columns import Bools, Bytes

NANOSECONDS = 10**9

_BATCH_ROWS = 4096  # enough to amortise the calls, few enough for the matrices to stay in the cache


class Rows:
    """Some rows of one table. A null is all zeros in a matrix: ask :meth:`valid`."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._arrays: dict[str, pa.Array] = {}

    def __len__(self) -> int:
        rows: int = self.table.num_rows
        return rows

    def slice(self, start: int, end: int) -> Rows:
        """The rows from ``start`` to before ``end``."""
        return Rows(self.table.slice(start, end - start))

    def array(self, name: str) -> pa.Array:
        """A column in one piece."""
        if name not in self._arrays:
            column = self.table[name]
            one = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(_chunks(column))
            self._arrays[name] = one
        return self._arrays[name]

    def valid(self, name: str) -> Bools:
        """Where the column is not null."""
        array = self.array(name)
        if not array.null_count:
            return np.ones(len(array), np.bool_)
        return array.is_valid().to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def integers(self, name: str) -> npt.NDArray[Any]:
        """Numbers or booleans, in the column's own type."""
        array = self.array(name)
        if array.null_count:
            array = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
        return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def big_endian(self, name: str) -> Bytes:
        """Unsigned numbers as (rows, 8)."""
        return self.integers(name).astype(">u8").view(np.uint8).reshape(len(self), 8)

    def decimals(self, name: str) -> Bytes:
        """Decimals as (rows, 16), big-endian."""
        return self._cells(name, 16)[:, ::-1]

    def matrix(self, name: str) -> Bytes:
        """Fixed-size bytes as (rows, width)."""
        return self._cells(name, self.array(name).type.byte_width)

    def _cells(self, name: str, width: int) -> Bytes:
        array = self.array(name)
        if not len(array):
            return np.empty((0, width), np.uint8)
        flat = np.frombuffer(array.buffers()[1], np.uint8, len(array) * width, array.offset * width)
        matrix = flat.reshape(len(array), width)
        return np.where(self.valid(name)[:, None], matrix, np.uint8(0)) if array.null_count else matrix

    def fixed(self, name: str) -> list[bytes]:
        """Fixed-size bytes as Python has them; nulls are zeros."""
        matrix = self.matrix(name)
        joined, width = matrix.tobytes(), matrix.shape[1]
        return [joined[start : start + width] for start in range(0, len(joined), width)]

    def seconds(self, name: str = "timestamp") -> npt.NDArray[np.int64]:
        """A timestamp's whole seconds since 1970."""
        return self.nanoseconds(name) // NANOSECONDS

    def nanoseconds(self, name: str = "timestamp") -> npt.NDArray[np.int64]:
        """A timestamp as it is stored."""
        return self.array(name).cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]


def _chunks(column: pa.ChunkedArray) -> list[pa.Array]:
    return column.chunks or [pa.nulls(0, column.type)]


@dataclass(frozen=True)
class Batch:
    """Consecutive blocks of all three tables. Block i has the transactions from ``tx_starts[i]`` to before
    ``tx_starts[i + 1]``, and logs likewise."""

    first: int
    headers: Rows
    transactions: Rows
    logs: Rows
    tx_starts: npt.NDArray[np.int64]
    log_starts: npt.NDArray[np.int64]

    @cached_property
    def block_of_tx(self) -> npt.NDArray[np.int64]:
        """The position in ``headers`` of each transaction's block."""
        return np.repeat(np.arange(len(self.headers)), np.diff(self.tx_starts))

    @cached_property
    def block_of_log(self) -> npt.NDArray[np.int64]:
        """The position in ``headers`` of each log's block."""
        return np.repeat(np.arange(len(self.headers)), np.diff(self.log_starts))

    @cached_property
    def tx_of_log(self) -> npt.NDArray[np.int64]:
        """The position in ``transactions`` of each log's transaction, -1 where its block has none of that index."""
        index = self.logs.integers("tx_index").astype(np.int64)
        counts = np.diff(self.tx_starts)[self.block_of_log]
        return np.where(index < counts, self.tx_starts[:-1][self.block_of_log] + index, -1)

    def only(self, block: int) -> Batch:
        """The block at this position alone."""
        txs, logs = self.tx_starts[block : block + 2], self.log_starts[block : block + 2]
        return Batch(
            self.first + block,
            self.headers.slice(block, block + 1),
            self.transactions.slice(*txs.tolist()),
            self.logs.slice(*logs.tolist()),
            txs - txs[0],
            logs - logs[0],
        )


def batches(tables: dict[str, pa.Table]) -> Iterator[Batch]:
    """The blocks of ``blocks`` in order, with their transactions and logs. Raises ValueError for rows of no block."""
    headers = Rows(tables["blocks"])
    numbers = headers.integers("block_num")
    if (numbers[1:] <= numbers[:-1]).any():
        raise ValueError("the blocks do not ascend")
    transactions, tx_starts = _by_block(tables["transactions"], numbers)
    logs, log_starts = _by_block(tables["logs"], numbers)
    rows = np.arange(len(numbers) + 1) + tx_starts + log_starts
    start = 0
    while start < len(numbers):
        end = max(start + 1, int(np.searchsorted(rows, rows[start] + _BATCH_ROWS)))
        end = min(end, len(numbers))
        txs, log = tx_starts[start : end + 1], log_starts[start : end + 1]
        yield Batch(
            start,
            headers.slice(start, end),
            transactions.slice(txs[0], txs[-1]),
            logs.slice(log[0], log[-1]),
            txs - txs[0],
            log - log[0],
        )
        start = end


def _by_block(table: pa.Table, blocks: npt.NDArray[np.uint64]) -> tuple[Rows, npt.NDArray[np.int64]]:
    """The rows in the order of their blocks, and where each block's start."""
    rows = Rows(table)
    numbers = rows.integers("block_num")
    if strays := np.setdiff1d(numbers, blocks).tolist():
        raise ValueError(f"transactions or logs of block {strays[0]}, which is not in the table blocks")
    if (numbers[1:] < numbers[:-1]).any():
        order = np.argsort(numbers, kind="stable")
        rows, numbers = Rows(table.take(pa.array(order))), numbers[order]
    return rows, np.append(np.searchsorted(numbers, blocks), len(numbers)).astype(np.int64)
