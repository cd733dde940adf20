"""What a run has in files, committed or open, and how much it has done in all (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ampd_ray.chain.ranges import Span
from ampd_ray.materialize.speed import Counts
from ampd_ray.materialize.types import ExtractSummary, JobTotals, WriterReport


class Tally:
    """Counts blocks and rows between one plan and the next.

    ``total`` is None if there is no last block; ``aside`` blocks are done without, and never among the ``done`` ones.
    ``counts`` are of the run, and never fall.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0
        self.aside = 0
        self.counts = Counts()
        self._set_aside: set[int] = set()  # since the plan
        self._extracted: dict[Span, Mapping[str, int]] = {}  # rows of what is not appended yet
        self._open: Counter[str] = Counter()  # rows in open files

    def planned(self, total: int | None, done: int, aside: int) -> None:
        """A plan was made: what was in open files is committed, and among ``done``, or lost with its writer."""
        self.total, self.done, self.aside = total, done, aside
        self._set_aside.clear()
        self._extracted.clear()
        self._open.clear()

    def ended(self) -> None:
        """There are no open files any more."""
        self._open.clear()

    def set_aside(self, block: int) -> None:
        """The job does without ``block``; its writer is told next, and reports it like one that it appended."""
        self._set_aside.add(block)
        self.aside += 1

    def extracted(self, summary: ExtractSummary) -> None:
        """A task was extracted."""
        self._extracted[summary.span] = summary.rows
        self._count(rows=sum(summary.rows.values()), requests=summary.requests)

    def reported(self, report: WriterReport) -> None:
        """A writer appended or committed."""
        for span in report.appended:
            if len(span) > 1 or span.start not in self._set_aside:
                self.done += len(span)
                self._count(blocks=len(span))
            self._open.update(self._extracted.pop(span, {}))
        for file in report.committed:
            self._open[file.table] = max(0, self._open[file.table] - file.rows)

    def rows(self, totals: JobTotals) -> dict[str, int]:
        """Per table, those committed by the run and those in open files."""
        tables = [*totals.rows, *(table for table in self._open if table not in totals.rows)]
        return {table: totals.rows.get(table, 0) + self._open[table] for table in tables}

    @property
    def left(self) -> int | None:
        """Blocks to go; None if there is no last one."""
        return None if self.total is None else max(0, self.total - self.done - self.aside)

    def _count(self, blocks: int = 0, rows: int = 0, requests: int = 0) -> None:
        before = self.counts
        self.counts = Counts(before.blocks + blocks, before.rows + rows, before.requests + requests)
