"""RLP of many rows at once: fields become matrices of bytes, rows the bytes that count in them.

A field of all rows is a matrix wide enough for its longest encoding, with a mask of what each row uses. Fields
stand side by side, the mask picks, and one cut gives each row its bytes: some 30 ns a field, where encoding value by
value takes 300.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Bools: TypeAlias = npt.NDArray[np.bool_]


class Cells(NamedTuple):
    """One field, or several side by side: (rows, width) bytes, and which of them count."""

    data: Bytes
    used: Bools


def numbers(big_endian: Bytes) -> Cells:
    """Unsigned integers, given as (rows, width) with width up to 55: without leading zeros."""
    rows, width = big_endian.shape
    data = np.empty((rows, width + 1), np.uint8)
    used = np.empty((rows, width + 1), np.bool_)
    data[:, 1:] = big_endian
    np.logical_or.accumulate(big_endian != 0, axis=1, out=used[:, 1:])
    lengths = used[:, 1:].sum(axis=1, dtype=np.uint8)
    data[:, 0] = 0x80 + lengths
    used[:, 0] = (lengths != 1) | (big_endian[:, -1] >= 0x80)  # a small byte is its own encoding
    return Cells(data, used)


def small_numbers(values: npt.NDArray[np.uint8]) -> Cells:
    """Unsigned integers below 128."""
    return Cells(np.where(values == 0, np.uint8(0x80), values)[:, None], np.ones((len(values), 1), np.bool_))


def strings(matrix: Bytes, valid: Bools | None = None) -> Cells:
    """Byte strings of one width from 2 to 55; what is not ``valid`` is the empty string."""
    return prefixed(bytes([0x80 + matrix.shape[1]]), matrix, valid)


def prefixed(prefix: bytes, matrix: Bytes, valid: Bools | None = None) -> Cells:
    """``prefix`` before each row of ``matrix``; what is not ``valid`` is the empty string instead."""
    rows, width = matrix.shape
    data = np.empty((rows, len(prefix) + width), np.uint8)
    data[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    data[:, len(prefix) :] = matrix
    used = np.ones(data.shape, np.bool_)
    if valid is not None and not valid.all():
        used[~valid, 1:] = False
        data[~valid, 0] = 0x80
    return Cells(data, used)


def where(valid: Bools, cells: Cells) -> Cells:
    """``cells`` in the rows that are ``valid``, nothing at all in the others."""
    return cells if valid.all() else Cells(cells.data, cells.used & valid[:, None])


def rows_of(*fields: Cells) -> list[bytes]:
    """The bytes of each row, its fields one after another."""
    data = np.concatenate([field.data for field in fields], axis=1)
    used = np.concatenate([field.used for field in fields], axis=1)
    joined = data[used].tobytes()
    ends = np.cumsum(used.sum(axis=1)).tolist()
    return [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def words(values: Sequence[int], width: int) -> Bytes:
    """Python integers as big-endian rows of ``width`` bytes."""
    joined = b"".join([value.to_bytes(width, "big") for value in values])
    return np.frombuffer(joined, np.uint8).reshape(len(values), width)
