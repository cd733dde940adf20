"""Checked blocks become the three Arrow tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from ampd_ray.chain.links import BlockLinks
from ampd_ray.datasets.evm.blocks import Headers, decode_blocks
from ampd_ray.datasets.evm.columns import raw
from ampd_ray.datasets.evm.logs import decode_logs
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.schemas import SCHEMAS, TABLES
from ampd_ray.datasets.evm.transactions import decode_transactions

_DECODERS: dict[str, Callable[[Headers], pa.Table]] = {
    "blocks": decode_blocks,
    "transactions": decode_transactions,
    "logs": decode_logs,
}
_GROUP_ROWS = 2048  # transactions and logs decoded together: enough to amortise calls, few enough to stay in cache


def decode(blocks: Sequence[BlockAndReceipts], network: str, tables: Sequence[str] = TABLES) -> dict[str, pa.Table]:
    """The rows of ``blocks`` (ascending), one table per name in ``tables``, exactly the schemas of data.md 1.

    Every column is one chunk. Raises DataFault (malformed or missing field) and ValueOverflow (a value that does
    not fit its column), each naming network, block, transaction, log and field.
    """
    parts = [Headers(group, network) for group in _groups(blocks)]
    return {name: _joined([_DECODERS[name](part) for part in parts], SCHEMAS[name]) for name in tables}


def links(blocks: Sequence[BlockAndReceipts], network: str) -> BlockLinks:
    """Number, hash, parent hash and timestamp of each block. Raises DataFault and ValueOverflow."""
    headers = Headers(blocks, network)
    parents = headers.columns.column("parentHash", raw, [block.block.parent_hash for block in blocks], 32)
    return BlockLinks(headers.numbers, headers.hashes.tobytes(), parents.tobytes(), headers.seconds)


def _groups(blocks: Sequence[BlockAndReceipts]) -> list[Sequence[BlockAndReceipts]]:
    groups: list[Sequence[BlockAndReceipts]] = []
    start = rows = 0
    for index, block in enumerate(blocks):
        rows += 1 + len(block.receipts) + sum(len(receipt.logs or ()) for receipt in block.receipts)
        if rows >= _GROUP_ROWS:
            groups.append(blocks[start : index + 1])
            start, rows = index + 1, 0
    if start < len(blocks):
        groups.append(blocks[start:])
    return groups


def _joined(parts: list[pa.Table], schema: pa.Schema) -> pa.Table:
    if not parts:
        return schema.empty_table()
    return parts[0] if len(parts) == 1 else pa.concat_tables(parts).combine_chunks()
