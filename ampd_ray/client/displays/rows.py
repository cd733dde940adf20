"""A list that shows itself as a table in a notebook, and is a list in everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any, Final, TypeVar

from ampd_ray.client.displays.state import cut

T = TypeVar("T")
MOST_ROWS: Final = 50
CELL_CHARS: Final = 240  # the reason of a failure fits


class Rows(list[T]):
    """``columns`` says what is shown of an item, by heading; without items it shows itself as ``[]``."""

    def __init__(self, items: Iterable[T], columns: Callable[[T], Mapping[str, object]]):
        super().__init__(items)
        self._columns = columns

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(table_text(self._lines(), self._more()) if self else "[]")

    def _repr_html_(self) -> str | None:
        return table_html(self._lines(), self._more()) if self else None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Rows, (list(self), self._columns))

    def _lines(self) -> list[list[str]]:
        shown = [self._columns(each) for each in self[:MOST_ROWS]]
        return [list(shown[0]), *([_cell(value) for value in each.values()] for each in shown)]

    def _more(self) -> int:
        return max(0, len(self) - MOST_ROWS)


def table_text(lines: list[list[str]], more: int = 0) -> str:
    """Aligned columns below their headings."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, f"and {more:,} more"] if more else table)


def table_html(lines: list[list[str]], more: int = 0) -> str:
    """The same for a notebook."""
    head, *body = ("".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in line) for line in lines)
    rows = "".join(f"<tr>{cells}</tr>" for cells in body)
    rest = f"<div>and {more:,} more</div>" if more else ""
    return f'<div><table><thead style="opacity:.75"><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}</div>'


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return cut(str(value), CELL_CHARS)
