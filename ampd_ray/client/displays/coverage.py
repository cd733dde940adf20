"""Coverage as lines of blocks, for terminals and everything else that shows plain text."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from ampd_ray.client.displays.strip import Mark, strip
from ampd_ray.client.displays.words import WORDS, percent

if TYPE_CHECKING:
    from ampd_ray.client.coverage import Coverage

MIN_CELLS = 10
GLYPHS = {Mark.VERIFIED: "█", Mark.UNVERIFIED: "▓", Mark.PART: "▄", Mark.QUARANTINED: "×", Mark.MISSING: "·"}
COLOURS = {Mark.VERIFIED: "32", Mark.UNVERIFIED: "36", Mark.PART: "33", Mark.QUARANTINED: "1;35", Mark.MISSING: "31"}


def coverage_text(coverage: Coverage, width: int = 80, *, colour: bool = False) -> str:
    """A line for each table, an axis and a legend, no wider than ``width`` cells if those are 40 or more."""
    head = f"{coverage.dataset} on {coverage.network}"
    if coverage.end < coverage.start:
        return f"{head}: no block from {coverage.start:,} on is there or asked for yet"
    asked = coverage.end - coverage.start + 1
    names = max(map(len, coverage.tables))
    shares = {name: percent(table.blocks, asked) for name, table in coverage.tables.items()}
    cells = max(MIN_CELLS, width - names - 4 - max(map(len, shares.values())))
    strips = {name: strip(table, coverage.start, coverage.end, cells) for name, table in coverage.tables.items()}
    lines = [head]
    lines += [f"{name:{names}}  {_bar(marks, cells, colour)}  {shares[name]}" for name, marks in strips.items()]
    lines += [" " * (names + 2) + axis for axis in _axis(coverage, cells)]
    lines += _legend({mark for marks in strips.values() for mark in marks}, width, colour)
    return "\n".join(lines)


def _bar(marks: list[Mark], cells: int, colour: bool) -> str:
    stretched = (marks[cell * len(marks) // cells] for cell in range(cells))
    return "".join(_painted(mark, GLYPHS[mark] * len(list(run)), colour) for mark, run in groupby(stretched))


def _painted(mark: Mark, text: str, colour: bool) -> str:
    return f"\x1b[{COLOURS[mark]}m{text}\x1b[0m" if colour else text


def _axis(coverage: Coverage, cells: int) -> list[str]:
    """The first and the last block below the ends of the bars; one below the other where there is no room."""
    first, last = f"{coverage.start:,}", f"{coverage.end:,}"
    if coverage.start == coverage.end:
        return [first]
    gap = cells - len(first) - len(last)
    return [first + " " * gap + last] if gap >= 1 else [f"from {first}", f"to   {last}"]


def _legend(used: set[Mark], width: int, colour: bool) -> list[str]:
    """What the marks mean, those only that occur, in as many lines as it takes."""
    lines, room = [""], width
    for mark in Mark:
        if mark not in used:
            continue
        length = len(WORDS[mark]) + 2
        if lines[-1] and length + 3 > room:
            lines.append("")
            room = width
        lines[-1] += "   " * bool(lines[-1]) + f"{_painted(mark, GLYPHS[mark], colour)} {WORDS[mark]}"
        room -= length + 3
    return lines
