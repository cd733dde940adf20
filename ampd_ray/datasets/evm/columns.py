"""Whole columns of hex text become Arrow at once.

The fast way joins a column, strips the ``0x`` in numpy and unhexlifies it in one call: some 40 ns a value, a
quarter of what a call per value takes. Whatever it does not recognise (odd spellings, JSON numbers, bad values)
goes the slow way, value by value, which decodes it or says which value is bad and why.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Callable, Hashable, Sequence
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampd_ray.datasets.evm.rpc import Quantity, quantity

Bytes: TypeAlias = npt.NDArray[np.uint8]
U64s: TypeAlias = npt.NDArray[np.uint64]
Build: TypeAlias = Callable[[Sequence[Any]], pa.Array]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_WORD_CHARS = 66  # of 32 bytes, with the 0x
MAX_U256 = (1 << 256) - 1
DECIMAL_LIMIT = 10**38  # pyarrow's decimal128(38, 0) ends below it; the column's type cannot hold more
_LIMIT_HIGH, _LIMIT_LOW = (np.uint64(half) for half in divmod(DECIMAL_LIMIT, 1 << 64))
_SPACE, _ZERO, _X, _NEWLINE = b" 0x\n"
_DIGITS = bytes.maketrans(b" x", b"00")
_mark, _after_mark = itemgetter(slice(2)), itemgetter(slice(2, None))
_is_hex = re.compile("0[xX][0-9a-fA-F]*").fullmatch  # no groups: the engine would remember each of megabytes of them


class Problem(StrEnum):
    """What is wrong with a value."""

    MISSING = "missing"
    MALFORMED = "malformed"
    OVERFLOW = "overflow"


class ColumnError(ValueError):
    """The value at ``index`` of a column cannot be decoded; ``reason`` completes the sentence "field: ..."."""

    def __init__(self, index: int, problem: Problem, reason: str) -> None:
        super().__init__(f"value {index}: {reason}")
        self.index = index
        self.problem = problem
        self.reason = reason


def missing(index: int) -> ColumnError:
    """The value is absent and must not be."""
    return ColumnError(index, Problem.MISSING, "missing")


def malformed(index: int, value: object, wanted: str) -> ColumnError:
    """The value is not of the form ``wanted``."""
    return ColumnError(index, Problem.MALFORMED, f"{_shown(value)} is not {wanted}")


def overflow(index: int, value: object, kind: str) -> ColumnError:
    """The value is well-formed, but the column's type ``kind`` cannot hold it."""
    return ColumnError(index, Problem.OVERFLOW, f"{_shown(value)} does not fit {kind}")


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


# -- bytes ------------------------------------------------------------------------------------------------------


def fixed(values: Sequence[str | None], width: int) -> pa.Array:
    """FixedSizeBinary(``width``), no nulls. Raises ColumnError."""
    return fixed_array(raw(values, width))


def raw(values: Sequence[str | None], width: int) -> Bytes:
    """The bytes of ``values`` as an (n, width) matrix. Raises ColumnError."""
    try:
        data = _joined(values, width)
    except (TypeError, ValueError):
        data = b"".join(one_binary(value, index, width) for index, value in enumerate(values))
    return np.frombuffer(data, np.uint8).reshape(len(values), width)


def _joined(values: Sequence[Any], width: int) -> bytes:
    """The bytes of values that all are 0x and ``2 * width`` digits. Raises TypeError and ValueError on any other.

    A line each: so a value that is too long cannot lend its digits to one that is too short.
    """
    lines = np.frombuffer("\n".join([*values, ""]).encode("ascii"), np.uint8).reshape(len(values), 2 * width + 3)
    if (lines[:, 0] != _ZERO).any() or (lines[:, 1] != _X).any() or (lines[:, -1] != _NEWLINE).any():
        raise ValueError("not 0x and digits")
    return unhexlify(lines[:, 2:-1].tobytes())


def fixed_array(matrix: Bytes) -> pa.Array:
    """An (n, width) matrix as FixedSizeBinary(width), without a copy where it is contiguous."""
    rows, width = matrix.shape
    return pa.Array.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(np.ascontiguousarray(matrix))])


def binary(values: Sequence[str | None]) -> pa.Array:
    """Binary, no nulls; ``0x`` is the empty value. Raises ColumnError."""
    try:
        lengths, data = _split(values)
    except (TypeError, ValueError):
        parts = [one_binary(value, index) for index, value in enumerate(values)]
        lengths, data = np.fromiter(map(len, parts), np.int64, len(parts)), b"".join(parts)
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(offsets(lengths)), pa.py_buffer(data)])


def _split(values: Sequence[Any]) -> tuple[npt.NDArray[np.int64], bytes]:
    """Lengths and joined bytes of values that all are 0x and pairs of digits. Raises TypeError and ValueError."""
    lengths = np.fromiter(map(len, values), np.int64, len(values)) - 2
    digits = list(map(_after_mark, values))
    if (lengths & 1).any() or not set(map(_mark, values)) <= {"0x"}:
        raise ValueError("not 0x and pairs of digits")
    return lengths >> 1, unhexlify("".join(digits))


def offsets(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Arrow's int32 offsets of values with these lengths. Raises MemoryError beyond 2 GiB in one array."""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    if ends[-1] > np.iinfo(np.int32).max:
        raise MemoryError("more than 2 GiB in one column: decode fewer blocks at once")
    return ends.astype(np.int32)


def one_binary(value: str | None, index: int = 0, width: int | None = None) -> bytes:
    """One value as bytes, of exactly ``width`` if given. Raises ColumnError."""
    if value is None:
        raise missing(index)
    odd = len(value) % 2 if width is None else len(value) != 2 + 2 * width
    if odd or not _is_hex(value):
        raise malformed(index, value, "hex data" if width is None else f"{width} bytes of hex data")
    return unhexlify(value[2:])


# -- numbers ----------------------------------------------------------------------------------------------------


def u64(values: Sequence[Quantity]) -> U64s:
    """Unsigned 64-bit numbers. Raises ColumnError."""
    try:
        return np.ascontiguousarray(_padded(values, 8)).view(">u8")[:, 0].astype(np.uint64)
    except (TypeError, ValueError):
        return np.array(_numbers(values, (1 << 64) - 1, "UInt64"), np.uint64)


def u32(values: Sequence[Quantity]) -> npt.NDArray[np.uint32]:
    """Unsigned 32-bit numbers. Raises ColumnError."""
    numbers = u64(values)
    big = np.flatnonzero(numbers > np.iinfo(np.uint32).max)
    if big.size:
        raise overflow(int(big[0]), values[int(big[0])], "UInt32")
    return numbers.astype(np.uint32)


def word(values: Sequence[Any]) -> pa.Array:
    """FixedSizeBinary(32): 256-bit numbers as big-endian words (r and s, often sent without leading zeros)."""
    try:
        full = [value if len(value) == _WORD_CHARS else _lengthened(value) for value in values]
        return pa.Array.from_buffers(pa.binary(32), len(full), [None, pa.py_buffer(_joined(full, 32))])
    except (TypeError, ValueError):
        numbers = _numbers(values, MAX_U256, "FixedSizeBinary(32)")
        words = b"".join(number.to_bytes(32, "big") for number in numbers)
        return fixed_array(np.frombuffer(words, np.uint8).reshape(-1, 32))


def _lengthened(value: str) -> str:
    if not _is_hex(value) or len(value) < 3:
        raise ValueError("not a quantity")
    return "0x" + value[2:].rjust(_WORD_CHARS - 2, "0")


def decimal(values: Sequence[Quantity]) -> pa.Array:
    """Decimal128(38, 0). Raises ColumnError, also for 10^38 and more."""
    try:
        small = np.ascontiguousarray(_padded(values, 8)).view(">u8")
    except (TypeError, ValueError):
        return _large_decimal(values)
    cells = np.zeros((len(values), 2), np.uint64)
    cells[:, :1] = small
    return pa.Array.from_buffers(pa.decimal128(38, 0), len(values), [None, pa.py_buffer(cells)])


def _large_decimal(values: Sequence[Quantity]) -> pa.Array:
    try:
        cells = np.ascontiguousarray(_padded(values, 16))
    except (TypeError, ValueError):
        numbers = _numbers(values, DECIMAL_LIMIT - 1, "Decimal128(38,0)")
        return pa.array(numbers, pa.decimal128(38, 0))
    high, low = cells.view(">u8").T
    big = np.flatnonzero((high > _LIMIT_HIGH) | ((high == _LIMIT_HIGH) & (low >= _LIMIT_LOW)))
    if big.size:
        raise overflow(int(big[0]), values[int(big[0])], "Decimal128(38,0)")
    little = pa.py_buffer(np.ascontiguousarray(cells[:, ::-1]))
    return pa.Array.from_buffers(pa.decimal128(38, 0), len(values), [None, little])


def text(values: Sequence[Quantity]) -> pa.Array:
    """256-bit numbers as decimal text. Raises ColumnError."""
    return pa.array(distinct(values, lambda value, at: str(one_number(value, at, MAX_U256, "256 bits"))), pa.string())


def _padded(values: Sequence[Any], width: int) -> Bytes:
    """Quantities as an (n, width) big-endian matrix. Raises ValueError on anything but clean 0x hex that fits."""
    cell = 2 * width + 2
    joined = (f"%{cell}s" * len(values) % tuple(values)).encode("ascii")
    if len(joined) != cell * len(values):
        raise ValueError("a value is too long")
    chars = np.frombuffer(joined, np.uint8)
    marks = np.flatnonzero(chars == _X)
    if len(marks) != len(values):
        raise ValueError("not one x each")
    columns = marks - _starts(len(values), cell)
    if len(values) and (columns.min() < 1 or columns.max() > cell - 2 or (chars[marks - 1] != _ZERO).any()):
        raise ValueError("not 0x and digits")
    blanks = np.count_nonzero(chars == _SPACE)
    if blanks != columns.sum() - len(values) or blanks != len(joined) - sum(map(len, values)):
        raise ValueError("digits before 0x, or blanks of its own")
    digits = unhexlify(joined.translate(_DIGITS))
    return np.frombuffer(digits, np.uint8).reshape(len(values), width + 1)[:, 1:]


@lru_cache(maxsize=256)
def _starts(rows: int, cell: int) -> npt.NDArray[np.int64]:
    return np.arange(0, rows * cell, cell)


def _numbers(values: Sequence[Quantity], highest: int, kind: str) -> list[int]:
    return [one_number(value, index, highest, kind) for index, value in enumerate(values)]


def one_number(value: Quantity, index: int = 0, highest: int = (1 << 64) - 1, kind: str = "UInt64") -> int:
    """One quantity, at most ``highest``. Raises ColumnError."""
    if value is None:
        raise missing(index)
    try:
        number = quantity(value)
    except ValueError:
        raise malformed(index, value, "a quantity") from None
    if number > highest:
        raise overflow(index, value, kind)
    return number


# -- any column -------------------------------------------------------------------------------------------------


def where(applies: npt.NDArray[np.bool_], dense: pa.Array) -> pa.Array:
    """``dense`` with null where it does not apply; for types of fixed width."""
    bitmap = pa.py_buffer(np.packbits(applies, bitorder="little"))
    return pa.Array.from_buffers(dense.type, len(dense), [bitmap, dense.buffers()[1]])


def spread(rows: Sequence[int], size: int, build: Build, values: Sequence[Any]) -> pa.Array:
    """A column of ``size`` values, null but at the ascending ``rows``, where ``build(values)`` stands."""
    try:
        dense = build(values)
    except ColumnError as bad:
        raise ColumnError(rows[bad.index], bad.problem, bad.reason) from None
    if len(rows) == size:
        return dense
    if not len(rows):
        return pa.nulls(size, dense.type)
    where = np.zeros(size, np.int32)
    where[rows] = np.arange(len(rows), dtype=np.int32)
    absent = np.ones(size, np.bool_)
    absent[rows] = False
    return dense.take(pa.array(where, mask=absent))


def present(size: int, build: Build, values: Sequence[Any]) -> pa.Array:
    """A nullable column: ``None`` is null, the others are built. Raises ColumnError."""
    if None not in values:
        return build(values)
    rows = [index for index, value in enumerate(values) if value is not None]
    return spread(rows, size, build, [values[index] for index in rows])


class _Converted(dict[K, V]):
    """The values of a column that have been seen, each converted once."""

    def __init__(self, convert: Callable[[K, int], V]) -> None:
        self._convert = convert

    def __missing__(self, value: K) -> V:
        self[value] = converted = self._convert(value, 0)
        return converted


def distinct(values: Sequence[K], convert: Callable[[K, int], V]) -> list[V]:
    """Convert a column of few distinct values, each of them once; ``convert`` gets a value and an index of it."""
    known = _Converted(convert)
    try:
        return [known[value] for value in values]
    except ColumnError:
        return [convert(value, index) for index, value in enumerate(values)]  # the first bad one, and where it is
