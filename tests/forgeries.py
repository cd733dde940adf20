"""Forged fields: real blocks of which one value was changed, and what data.md 9 says of that field."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa

from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.schemas import SCHEMAS

Tables = dict[str, pa.Table]
Honest = dict[str, list[tuple[BlockAndReceipts, Tables, int]]]
"""By table the blocks that have rows of it, each with the id of its chain."""

DEPOSIT = 0x7E
NOBODY = bytes(20)

COPIES = {
    "blocks": {"_block_num"},
    "transactions": {"_block_num", "block_hash", "timestamp"},
    "logs": {"_block_num", "block_hash", "timestamp", "tx_hash"},
}
FULL_ONLY = {("transactions", "tx_hash"), ("transactions", "from")}
UNTOLD = {"nonce", "chain_id", "max_fee_per_gas", "max_priority_fee_per_gas"}  # of a deposit, which has none of them


@dataclass(frozen=True)
class Forgery:
    """Row ``row`` of a block's table says ``new`` where it said ``old``."""

    chain_id: int
    answer: BlockAndReceipts = dataclass_field(repr=False)
    honest: Tables = dataclass_field(repr=False)
    table: str
    column: str
    row: int
    old: Any
    new: Any

    @property
    def tables(self) -> Tables:
        table = self.honest[self.table]
        index = table.schema.get_field_index(self.column)
        values = _plain(table[self.column])
        values[self.row] = self.new
        forged = pa.array(values, table.schema.field(index).type)
        return self.honest | {self.table: table.set_column(index, table.schema.field(index), forged)}

    @property
    def transaction(self) -> dict[str, Any]:
        """The forged transaction, or that of the forged log, as it was."""
        if self.table == "transactions":
            row: dict[str, Any] = self.honest["transactions"].slice(self.row, 1).to_pylist()[0]
            return row
        index = self.honest["logs"]["tx_index"][self.row].as_py()
        owner: dict[str, Any] = self.honest["transactions"].slice(index, 1).to_pylist()[0]
        return owner

    def kind(self) -> str:
        """Which level is to see it, by the rules of data.md 9 alone."""
        if self.column in COPIES[self.table]:
            return "copied"
        if self.column == "total_difficulty":
            return "nothing commits to it"
        if self.column == "log_index":
            indexes = self.tables["logs"]["log_index"].to_pylist()
            return "nothing commits to it" if all(a < b for a, b in pairwise(indexes)) else "under a root"
        if self.table != "blocks" and self._beyond():
            return "nothing commits to it"
        return "hash or sender" if (self.table, self.column) in FULL_ONLY and not self._enveloped() else "under a root"

    def _enveloped(self) -> bool:
        """A deposit's sender is part of its envelope."""
        return self.column == "from" and self.transaction["type"] == DEPOSIT

    def _beyond(self) -> bool:
        if self.of_bor():
            return self.column not in {"tx_hash", "from", "to", "type", "tx_index", "block_num"}
        if self.table != "transactions":
            return False
        if self.column == "status":  # beside a root that the trie has in its place
            return self.answer.receipts[self.row].root is not None
        return self.transaction["type"] == DEPOSIT and self.column in UNTOLD

    def of_bor(self) -> bool:
        """Whether this is (a log of) a state sync, which no root covers."""
        return self.table != "blocks" and self.transaction["from"] == self.transaction["to"] == NOBODY


def _plain(column: pa.ChunkedArray) -> list[Any]:
    return list((column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist())


def forged(kind: pa.DataType, old: Any, nullable: bool, rng: random.Random) -> Any:
    """Another value of this type, near to the old one or far from it."""
    if nullable and old is not None and rng.random() < 0.2:
        return None
    if pa.types.is_boolean(kind):
        return not old
    if pa.types.is_list(kind):
        return _forged_list(kind, old, rng)
    if pa.types.is_timestamp(kind):
        return old + rng.choice([1, 10**9, -(10**9), 10**9 * rng.randrange(1, 10**6)])
    if pa.types.is_decimal(kind):
        return Decimal(_other(None if old is None else int(old), 10**37, rng))
    if pa.types.is_string(kind):
        return rng.choice([str(_other(int(old), 1 << 256, rng)), "0" + old, "+" + old])
    if pa.types.is_integer(kind):
        return _other(old, 1 << (31 if kind == pa.int32() else kind.bit_width), rng)
    return _forged_bytes(old, None if kind == pa.binary() else kind.byte_width, rng)


def _other(old: int | None, limit: int, rng: random.Random) -> int:
    near = [] if old is None else [old + 1, old - 1, old ^ 1 << rng.randrange(8), 0]
    return rng.choice([n for n in [*near, rng.randrange(limit)] if 0 <= n < limit and n != old])


def _forged_bytes(old: bytes | None, width: int | None, rng: random.Random) -> bytes:
    if old is None:
        return rng.randbytes(width or 8)
    if width is None and (not old or rng.random() < 0.3):
        return rng.choice([old + b"\0", old + rng.randbytes(32), b"\0" + old])
    at = rng.randrange(len(old))
    return old[:at] + bytes([old[at] ^ 1 << rng.randrange(8)]) + old[at + 1 :]


def _forged_list(kind: pa.DataType, old: list[Any] | None, rng: random.Random) -> list[Any]:
    item = kind.value_type
    if not old:
        return [] if old is None and rng.random() < 0.5 else [_new_item(item, rng)]
    at = rng.randrange(len(old))
    match rng.randrange(3):
        case 0:
            return old[:at] + old[at + 1 :]
        case 1:
            return [*old[:at], _new_item(item, rng), *old[at:]]
        case _:
            return [*old[:at], _changed_item(item, old[at], rng), *old[at + 1 :]]


def _new_item(kind: pa.DataType, rng: random.Random) -> Any:
    if pa.types.is_struct(kind):
        return {field.name: _new_item(field.type, rng) for field in kind}
    if pa.types.is_list(kind):
        return []
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    return rng.randrange(1 << 64) if pa.types.is_integer(kind) else rng.randbytes(kind.byte_width)


def _changed_item(kind: pa.DataType, old: Any, rng: random.Random) -> Any:
    if not pa.types.is_struct(kind):
        return forged(kind, old, False, rng)
    field = rng.choice(list(kind))
    return old | {field.name: forged(field.type, old[field.name], False, rng)}


def forgeries(honest: Honest, count: int, seed: int) -> Iterator[Forgery]:
    """Every column in turn, of blocks and rows at random."""
    rng = random.Random(seed)
    fields = [(table, field) for table, schema in SCHEMAS.items() for field in schema]
    for number in range(count):
        table, field = fields[number % len(fields)]
        answer, tables, chain_id = rng.choice(honest[table])
        row = rng.randrange(tables[table].num_rows)
        old = _plain(tables[table][field.name])[row]
        new = forged(field.type, old, field.nullable, rng)
        if new != old:
            yield Forgery(chain_id, answer, tables, table, field.name, row, old, new)
