"""The fast path of parsing, checking and decoding: blocks of the plain form, without a Python object a value.

It accepts or declines, and never judges. What it accepts, the pure path (``rpc``, ``checks`` at level ``strict``,
``decode``) accepts with the same rows; what it declines, the caller gives to the pure path, which has the rows or the
error. ``_native.c`` does the work. It is optional: where it is not built ``available`` is False.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from ampd_ray.chain.links import BlockLinks
from ampd_ray.datasets.evm.blocks import NANOSECONDS
from ampd_ray.datasets.evm.schemas import SCHEMAS, TABLES

if TYPE_CHECKING:
    from ampd_ray.datasets.evm import _native

    Parts = Iterator[tuple[int, _native.Buffer]]

Json: TypeAlias = "bytes | bytearray | memoryview | msgspec.Raw"

OFF: Final = "AMPD_RAY_PURE"
"""Set to 1, it turns the fast path off for processes that start then."""

available = False
"""Whether there is a fast path; :class:`Rows` needs it."""


def _buffers(kind: pa.DataType, *, nullable: bool) -> int:
    """How many buffers a column has."""
    if pa.types.is_struct(kind):
        return nullable + sum(_buffers(field.type, nullable=field.nullable) for field in kind)
    if pa.types.is_list(kind):
        return nullable + 1 + _buffers(kind.value_type, nullable=kind.value_field.nullable)
    return nullable + 1 + int(pa.types.is_binary(kind) or pa.types.is_string(kind))


def _buffers_of(schema: pa.Schema) -> int:
    """How many buffers are handed out for a table."""
    return sum(_buffers(field.type, nullable=field.nullable) for field in schema if field.name != "_block_num")


if os.environ.get(OFF) != "1":
    try:
        from ampd_ray.datasets.evm import _native

        # What was built from an older source, and not built again, may not know these tables.
        available = sum(map(_buffers_of, SCHEMAS.values())) == _native.HANDED_OUT
    except (ImportError, AttributeError):  # installed where there was no compiler
        pass


class Rows:
    """The rows of blocks, appended in ascending order. One thread at a time (RuntimeError else)."""

    def __init__(self, tables: Sequence[str] = TABLES) -> None:
        self._tables = tables
        self._columns = _native.Columns()

    def add(self, number: int, block: Json, receipts: Json | None) -> bool:
        """Append block ``number``, given as the JSON text of a block object and of its list of receipts.

        ``receipts`` are None where none were asked for. False if the block is not plain or fails a check: nothing is
        appended then. Other threads run meanwhile; none may change the texts.
        """
        return self._columns.add(number, block, receipts)

    @property
    def declined(self) -> str | None:
        """Why the last block was not added, as an object and a key or reason; None if it was."""
        return self._columns.declined

    def finish(self) -> tuple[dict[str, pa.Table], BlockLinks]:
        """The tables (exactly their schemas, one chunk a column) and the links of all blocks; no rows are left."""
        parts = iter(self._columns.take())
        tables = {name: _table(schema, parts) for name, schema in SCHEMAS.items()}
        return {name: tables[name] for name in self._tables}, _links(tables["blocks"])


def _table(schema: pa.Schema, parts: Parts) -> pa.Table:
    """The next table. Its ``_block_num`` is its ``block_num`` again."""
    arrays = {field.name: _array(field, parts) for field in schema if field.name != "_block_num"}
    return pa.Table.from_arrays([arrays["block_num"], *arrays.values()], schema=schema)


def _array(field: pa.Field, parts: Parts) -> pa.Array:
    """The next column, from its buffers in Arrow's order: validity, offsets, values or children."""
    kind = field.type
    valid = pa.py_buffer(next(parts)[1]) if field.nullable else None
    if pa.types.is_struct(kind):
        children = [_array(child, parts) for child in kind]
        return pa.Array.from_buffers(kind, len(children[0]), [valid], children=children)
    rows, first = next(parts)
    buffers = [valid, pa.py_buffer(first)]
    if pa.types.is_list(kind):
        return pa.Array.from_buffers(kind, rows, buffers, children=[_array(kind.value_field, parts)])
    if pa.types.is_binary(kind) or pa.types.is_string(kind):
        buffers.append(pa.py_buffer(next(parts)[1]))
    return pa.Array.from_buffers(kind, rows, buffers)


def _links(blocks: pa.Table) -> BlockLinks:
    numbers, times, hashes, parents = (
        blocks[name].chunk(0).buffers()[1] for name in ("block_num", "timestamp", "hash", "parent_hash")
    )
    seconds = np.frombuffer(times, np.uint64) // np.uint64(NANOSECONDS)
    return BlockLinks(np.frombuffer(numbers, np.uint64), hashes.to_pybytes(), parents.to_pybytes(), seconds)
