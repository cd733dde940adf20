"""A table's blocks as a strip of cells, each of which shows the worst that is in it: what coverage pictures draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from ampd_ray.chain.ranges import Span

if TYPE_CHECKING:
    from ampd_ray.client.coverage import TableCoverage


class Mark(Enum):
    """What a cell shows of its blocks, in the order of legends."""

    VERIFIED = auto()  # all are covered and verified
    UNVERIFIED = auto()  # all are covered, some not verified
    PART = auto()  # some are missing
    QUARANTINED = auto()  # some are quarantined
    MISSING = auto()  # all are missing


LACKING = (Mark.PART, Mark.MISSING)


def strip(table: TableCoverage, start: int, end: int, cells: int) -> list[Mark]:
    """A mark for each of ``cells`` (at least ten) that share ``start`` to ``end``; fewer if there are fewer blocks.

    However few blocks of a kind there are, one cell shows it: the nearest one that can be spared.
    """
    blocks = end - start + 1
    cells = min(cells, blocks)
    covered, unverified, quarantined, missing = (
        _shares(spans, start, blocks, cells)
        for spans in (table.covered, table.unverified, table.quarantined, table.missing)
    )
    verified = [all_ - some for all_, some in zip(covered, unverified, strict=True)]
    marks = [
        Mark.QUARANTINED if aside
        else (Mark.PART if there else Mark.MISSING) if lacking
        else Mark.UNVERIFIED if unsure
        else Mark.VERIFIED
        for there, unsure, aside, lacking in zip(covered, unverified, quarantined, missing, strict=True)
    ]  # fmt: skip
    for mark, shares in (
        (Mark.QUARANTINED, quarantined),
        (Mark.MISSING, missing),
        (Mark.UNVERIFIED, unverified),
        (Mark.VERIFIED, verified),
    ):
        seen = LACKING if mark is Mark.MISSING else (mark,)
        if any(shares) and not any(shown in seen for shown in marks):
            _show(mark if mark is not Mark.MISSING else Mark.PART, shares, marks)
    return marks


def _shares(spans: Sequence[Span], start: int, blocks: int, cells: int) -> list[int]:
    """How many of the numbers of ``spans`` are in each cell."""
    shares = [0] * cells
    for span in spans:
        first, last = span.start - start, span.end - start
        cell = first * cells // blocks
        while first <= last:
            after = -(-(cell + 1) * blocks // cells)  # the first number of the next cell
            shares[cell] += min(last + 1, after) - first
            first, cell = after, cell + 1
    return shares


def _show(mark: Mark, shares: Sequence[int], marks: list[Mark]) -> None:
    """Give ``mark`` a cell: where it has most, or the nearest cell beside whose mark others show too."""
    most = max(range(len(shares)), key=shares.__getitem__)
    shown = Counter(marks)
    free = [cell for cell, other in enumerate(marks) if shown[other] > 1]
    marks[min(free, key=lambda cell: abs(cell - most))] = mark
