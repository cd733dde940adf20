"""Rows of an Arrow table for people: bytes as 0x-hex, as wide as the terminal, and for programs: JSON and CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ampd_ray.cli.output import one_line

if TYPE_CHECKING:
    import pyarrow as pa

GAP = "  "
TURNED_ROWS = 10  # so many rows that do not fit stand side by side, a line for each column
LONGEST = (None, 42, 13)  # characters of bytes in hex, tried one after the other; 42 is an address in full
LONGEST_TEXT = 40  # characters of other text, from the second try on


def plain(value: Any) -> Any:
    """A value as JSON has it. Whole decimals are integers, however large; times are UTC."""
    match value:
        case bytes():
            return f"0x{value.hex()}"
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value.tzinfo else value.isoformat()
        case Mapping():
            return {name: plain(each) for name, each in value.items()}
        case list():
            return [plain(list(each) if type(each) is tuple else each) for each in value]  # an entry of a map
        case None | bool() | int() | str():
            return value
    return str(value)


def records(batch: pa.RecordBatch | pa.Table) -> Iterator[list[Any]]:
    """The rows as plain values; columns of one name stay apart."""
    columns = [[plain(value) for value in column.to_pylist()] for column in batch.columns]
    return iter(map(list, zip(*columns, strict=True)))


def cell(value: Any, longest: int | None = None) -> str:
    """A plain value in one line; bytes and texts may lose a part that is marked, numbers never do."""
    if value is None:
        return "-"
    if isinstance(value, int | float):
        return json.dumps(value)
    line = one_line(value if isinstance(value, str) else json.dumps(value))
    if longest is None or len(line) <= longest:
        return line
    if line.startswith("0x"):
        return f"{line[: longest - 5]}…{line[-4:]}"
    return line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 1]}…"


def grid(names: Sequence[str], rows: Iterable[Sequence[Any]], width: int) -> list[str]:
    """Lines of at most ``width`` characters.

    Long cells lose their middles first; then few rows are turned, so that each column is a line, and many lose columns.
    """
    values = [list(row) for row in rows]
    right = [any(isinstance(row[at], int | float) for row in values) for at in range(len(names))]
    header = list(map(one_line, names))
    tries = [[header, *([cell(value, longest) for value in row] for row in values)] for longest in LONGEST]
    for cells in tries:
        if sum(widths := _widths(cells)) + len(GAP) * (len(names) - 1) <= width:
            return _aligned(cells, widths, right)
    if values and len(values) <= TURNED_ROWS:
        fitting = [cells for cells in tries if _room(*cells) <= width]
        return _turned([*fitting, tries[-1]][0], width)
    return _fewer(tries[-1], right, width)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def _aligned(cells: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    return [
        GAP.join(
            word.rjust(width) if at_right else word.ljust(width)
            for word, width, at_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    ]


def _turned(cells: Sequence[Sequence[str]], width: int) -> list[str]:
    """A line for each column, as many rows beside each other as fit, the others below."""
    names, *rows = cells
    lines: list[str] = []
    while rows:
        count = next((n for n in range(len(rows), 1, -1) if _room(names, *rows[:n]) <= width), 1)
        block = [list(line) for line in zip(names, *rows[:count], strict=True)]
        lines += [*([""] if lines else []), *_aligned(block, _widths(block), [False] * (count + 1))]
        rows = rows[count:]
    return lines


def _room(*lines: Sequence[str]) -> int:
    """How wide these lines are beside each other."""
    return sum(max(map(len, line)) for line in lines) + len(GAP) * (len(lines) - 1)


def _fewer(cells: Sequence[Sequence[str]], right: Sequence[bool], width: int) -> list[str]:
    """The first columns that fit, and how many do not."""
    widths = _widths(cells)
    count = 1
    while sum(widths[: count + 1]) + len(GAP) * count <= width:
        count += 1
    lines = _aligned([line[:count] for line in cells], widths[:count], right[:count])
    return [*lines, f"… and {len(widths) - count} columns that do not fit; --json and --csv have all"]
