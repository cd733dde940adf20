"""Checked blocks become the three Arrow tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from msgspec.structs import replace

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

Look = Callable[[dict[str, pa.Table], Sequence[BlockAndReceipts]], object]


@dataclass(frozen=True)
class Decoded:
    """One table per name, exactly the schemas of data.md 1, every column one chunk; and the links of the blocks."""

    tables: Mapping[str, pa.Table]
    links: BlockLinks


class Decoding:
    """The rows of ascending blocks, decoded some at a time as the blocks come: of those only their headers are kept.

    ``look`` sees all three tables of the blocks that were decoded together, and the blocks.

    All methods raise DataFault (malformed or missing field) and ValueOverflow (a value that does not fit its column),
    each naming network, block, transaction, log and field.
    """

    def __init__(self, network: str, tables: Sequence[str] = TABLES, look: Look | None = None) -> None:
        self._network = network
        self._tables = tables
        self._look = look
        self._rows: dict[str, list[pa.Table]] = {name: [] for name in tables if name != "blocks"}
        self._headers: list[BlockAndReceipts] = []
        self._group: list[BlockAndReceipts] = []
        self._group_rows = 0

    def add(self, block: BlockAndReceipts) -> None:
        """Take the next block."""
        self._group.append(block)
        self._group_rows += 1 + len(block.receipts) + sum([len(receipt.logs or ()) for receipt in block.receipts])
        if self._group_rows >= _GROUP_ROWS:
            self._decode()

    def finish(self) -> Decoded:
        """All rows."""
        self._decode()
        headers = Headers(self._headers, self._network)
        found = {name: joined(parts, SCHEMAS[name]) for name, parts in self._rows.items()}
        if "blocks" in self._tables:
            found["blocks"] = decode_blocks(headers)
        return Decoded({name: found[name] for name in self._tables}, _links(headers))

    def _decode(self) -> None:
        """The rows of the blocks at hand; the few columns of their headers are decoded in the end, all at once."""
        if not self._group:
            return
        headers = Headers(self._group, self._network)
        tables = {name: _DECODERS[name](headers) for name in (TABLES if self._look is not None else self._rows)}
        for name, parts in self._rows.items():
            parts.append(tables[name])
        if self._look is not None:
            self._look(tables, self._group)
        self._headers += [BlockAndReceipts(replace(each.block, transactions=None), []) for each in self._group]
        self._group, self._group_rows = [], 0


def decode(blocks: Sequence[BlockAndReceipts], network: str, tables: Sequence[str] = TABLES) -> dict[str, pa.Table]:
    """The rows of ``blocks``, as :class:`Decoding` has them."""
    decoding = Decoding(network, tables)
    for block in blocks:
        decoding.add(block)
    return dict(decoding.finish().tables)


def links(blocks: Sequence[BlockAndReceipts], network: str) -> BlockLinks:
    """Number, hash, parent hash and timestamp of each block. Raises DataFault and ValueOverflow."""
    return _links(Headers(blocks, network))


def _links(headers: Headers) -> BlockLinks:
    parents = headers.columns.column("parentHash", raw, [block.block.parent_hash for block in headers.blocks], 32)
    return BlockLinks(headers.numbers, headers.hashes.tobytes(), parents.tobytes(), headers.seconds)


def joined(parts: list[pa.Table], schema: pa.Schema) -> pa.Table:
    """The rows of all parts, every column one chunk."""
    if not parts:
        return schema.empty_table()
    return parts[0] if len(parts) == 1 else pa.concat_tables(parts).combine_chunks()
