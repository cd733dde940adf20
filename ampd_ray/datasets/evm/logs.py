"""The table ``logs``: the logs of all receipts in order (``spec/data.md`` 1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import cast

import numpy as np
import pyarrow as pa

from ampd_ray.datasets.evm import columns
from ampd_ray.datasets.evm.blocks import Headers, addresses, hashes
from ampd_ray.datasets.evm.place import Columns, Place, number_of, readable
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, RpcBlock, RpcLog, quantity, repeated
from ampd_ray.datasets.evm.schemas import B32, LOGS


def decode_logs(headers: Headers) -> pa.Table:
    """One row for each log, the schema of data.md 1.5. Raises DataFault and ValueOverflow."""
    per_block = [_logs_of(block, headers.network) for block in headers.blocks]
    times = list(map(len, per_block))
    rows = list(chain.from_iterable(per_block))
    if not _belong([block.block for block in headers.blocks], times, rows):
        for block, logs in zip(headers.blocks, per_block, strict=True):
            _check_block(block, logs, headers.network)
    column = Columns(lambda i: _place(headers, times, rows[i], i)).column
    numbers = headers.numbered(times)
    arrays = [
        numbers,
        headers.hashed(times),
        numbers,
        headers.timed(times),
        column("transactionHash", hashes, [row.transaction_hash for row in rows]),
        pa.array(column("transactionIndex", columns.u32, [row.transaction_index for row in rows])),
        pa.array(column("logIndex", columns.u32, [row.log_index for row in rows])),
        column("address", addresses, [row.address for row in rows]),
        *column("topics", _topics, rows),
        column("data", columns.binary, [row.data for row in rows]),
    ]
    return pa.Table.from_arrays(arrays, schema=LOGS)


def _logs_of(block: BlockAndReceipts, network: str) -> list[RpcLog]:
    lists = [receipt.logs for receipt in block.receipts]
    if None in lists:
        index = lists.index(None)
        place = Place(network, number_of(block.block), index, block.receipts[index].transaction_hash)
        raise place.fault("logs", "missing in the receipt")
    return list(chain.from_iterable(cast(list[list[RpcLog]], lists)))


def _belong(owners: Sequence[RpcBlock], times: Sequence[int], rows: Sequence[RpcLog]) -> bool:
    """Whether every log names the block that it came with: its number and hash are then the header's."""
    return [row.block_hash for row in rows] == repeated([owner.hash for owner in owners], times) and [
        row.block_number for row in rows
    ] == repeated([owner.number for owner in owners], times)


def _check_block(block: BlockAndReceipts, logs: list[RpcLog], network: str) -> None:
    """The first log that names another block is a fault; another spelling is none."""
    header = block.block
    for log in logs:
        place = Place(network, number_of(header), _index(log), log.transaction_hash, readable(log.log_index))
        if readable(log.block_number) != readable(header.number):
            raise place.fault("blockNumber", f"{log.block_number} is not the block's")
        if (log.block_hash or "").lower() != (header.hash or "").lower():
            raise place.fault("blockHash", f"{log.block_hash} is not the block's {header.hash}")


def _topics(rows: list[RpcLog]) -> list[pa.Array]:
    """The columns topic0 … topic3; all topics are decoded together and then dealt out."""
    lists = [row.topics for row in rows]
    if None in lists:
        raise columns.missing(lists.index(None))
    given = cast(list[list[str]], lists)
    counts = np.fromiter(map(len, given), np.int64, len(rows))
    wrong = np.flatnonzero(counts > 4)
    if wrong.size:
        raise columns.malformed(int(wrong[0]), given[int(wrong[0])], "0 to 4 topics")
    starts = columns.offsets(counts)[:-1]
    try:
        topics = hashes(list(chain.from_iterable(given)))
    except columns.ColumnError as bad:
        owner = int(np.repeat(np.arange(len(rows)), counts)[bad.index])
        raise columns.ColumnError(owner, bad.problem, bad.reason) from None
    if not len(topics):
        return [pa.nulls(len(rows), B32)] * 4
    return [topics.take(pa.array(starts + k, mask=counts <= k)) for k in range(4)]


def _place(headers: Headers, times: list[int], log: RpcLog, row: int) -> Place:
    block = int(np.repeat(headers.numbers, times)[row])
    return Place(headers.network, block, _index(log), log.transaction_hash, readable(log.log_index))


def _index(log: RpcLog) -> int:
    try:
        return quantity(log.transaction_index)
    except ValueError:
        return -1
