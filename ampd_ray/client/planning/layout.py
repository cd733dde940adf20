"""Units, tasks and files of a backfill that has not begun, by the planner's own rules; pure.

A job is planned pass by pass, each by the density of what the last one wrote. Here the density comes from a sample.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from ampd_ray.chain.ranges import Span, intersect, merge, union
from ampd_ray.materialize import plan
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.state import (
    FIRST_TASK_BLOCKS,
    GROWTH,
    MAX_TASK_BLOCKS,
    TASK_BYTES,
    TASKS_PER_EXTRACTOR,
)
from ampd_ray.materialize.write import FILE_BYTES_PER_ARROW_BYTE

MOST_PASSES = 500  # that are gone through one by one; the rest is like them
MOST_SPANS = 200_000  # that all of those together may have to do with: a chain full of gaps takes long to plan


class Density:
    """Bytes of a block along the chain, in steps: from each of ``starts``, ascending, so many for each table."""

    def __init__(self, starts: Sequence[int], by_table: Mapping[str, Sequence[float]]) -> None:
        self._starts = starts
        self._steps = by_table
        lengths = [b - a for a, b in pairwise(starts)]
        self._sums = {
            table: [0.0, *accumulate(length * step for length, step in zip(lengths, steps, strict=False))]
            for table, steps in by_table.items()
        }

    def bytes_of(self, span: Span, tables: Sequence[str]) -> float:
        """All bytes of these tables in ``span``."""
        return sum(self._below(span.end + 1, table) - self._below(span.start, table) for table in tables)

    def _below(self, block: int, table: str) -> float:
        at = max(0, bisect_right(self._starts, block) - 1)
        return self._sums[table][at] + (block - self._starts[at]) * self._steps[table][at]


@dataclass(frozen=True)
class Rules:
    """What decides where tasks and files end: ``segment_bytes`` are those of a file set, ``blocks_a_sec`` the speed."""

    writers: int
    segment_bytes: int
    flush_secs: float
    blocks_a_sec: float
    batch_size: int = 1
    finalized: int | None = None


@dataclass
class Layout:
    """How much there is of each; ``parts`` are what is asked for in one request, or one after the other."""

    units: float = 0
    passes: float = 0
    tasks: float = 0
    parts: float = 0
    task_blocks: float = 0.0  # of the last unit: that of most
    files: dict[str, float] = field(default_factory=dict)

    def grown(self, factor: float) -> Layout:
        """So many times as much of the same."""
        return Layout(
            units=round(self.units * factor),
            passes=round(self.passes * factor),
            tasks=round(self.tasks * factor),
            parts=round(self.parts * factor),
            task_blocks=self.task_blocks,
            files={table: round(files * factor) for table, files in self.files.items()},
        )


def lay_out(missing: Mapping[str, Sequence[Span]], arrow: Density, files: Density, rules: Rules) -> Layout:
    """Go through the passes of a job that lacks ``missing``; ``arrow`` and ``files`` say what a block takes."""
    found = Layout(files=dict.fromkeys(missing, 0))
    left = {table: merge(spans) for table, spans in missing.items()}
    todo = whole = sum(map(len, union(*left.values())))
    most = min(MOST_PASSES, max(4, MOST_SPANS // max(1, sum(map(len, left.values())))))
    density: float | None = None
    while todo and found.passes < most:
        size = plan.unit_blocks(density, blocks=todo, writers=rules.writers)
        units = plan.one_pass(
            plan.plan(left, unit_blocks=size), density_known=density is not None, writers=rules.writers
        )
        for unit in units:
            _add(found, unit, arrow, rules, first=density is None)
        blocks = sum(len(unit.span) for unit in units)
        density = sum(files.bytes_of(unit.span, unit.tables) for unit in units) / blocks
        todo -= blocks
        rest = Span(units[-1].span.end + 1, plan_end) if (plan_end := _end(left)) > units[-1].span.end else None
        left = {table: intersect(spans, rest) if rest else [] for table, spans in left.items()}
        found.passes += 1
    return found if not todo else found.grown(whole / (whole - todo))


def _end(left: Mapping[str, Sequence[Span]]) -> int:
    return max((spans[-1].end for spans in left.values() if spans), default=-1)


def _add(found: Layout, unit: Unit, arrow: Density, rules: Rules, *, first: bool) -> None:
    blocks = len(unit.span)
    nbytes = max(1.0, arrow.bytes_of(unit.span, unit.tables))
    found.task_blocks = wanted = min(MAX_TASK_BLOCKS, max(1, int(TASK_BYTES / (nbytes / blocks))))
    tasks = _feeling_its_way(blocks, wanted) if first else _even(blocks, wanted)
    found.units += 1
    found.tasks += len(tasks)
    found.parts += sum(math.ceil(task / rules.batch_size) for task in tasks)
    segments = _segments(unit.span, tasks, nbytes / blocks, rules)
    for table in unit.tables:
        found.files[table] += segments


def _even(blocks: int, wanted: int) -> list[int]:
    whole, rest = divmod(blocks, wanted)
    return [wanted] * whole + [rest] * bool(rest)


def _feeling_its_way(blocks: int, wanted: int) -> list[int]:
    """While nothing is known of the chain: small tasks at first, each of the next four times as large."""
    sizes: list[int] = []
    size = FIRST_TASK_BLOCKS
    while blocks:
        sizes.append(min(size, blocks))
        blocks -= sizes[-1]
        if len(sizes) >= TASKS_PER_EXTRACTOR:
            size = min(wanted, size * GROWTH)
    return sizes


def _segments(span: Span, tasks: Sequence[int], arrow_a_block: float, rules: Rules) -> int:
    """A file set ends with its unit, and before that by size, where a task ends, by age, or after what is final."""
    found, held, opened_at = 0, 0.0, 0.0
    done = 0
    for task in tasks:
        done += task
        held += task * arrow_a_block * FILE_BYTES_PER_ARROW_BYTE
        old = done - opened_at >= rules.flush_secs * rules.blocks_a_sec
        if done < len(span) and (held >= rules.segment_bytes or old):
            found, held, opened_at = found + 1, 0.0, done
    ends_within = rules.finalized is not None and span.start <= rules.finalized < span.end
    return found + 1 + ends_within
