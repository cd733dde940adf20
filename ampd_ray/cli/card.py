"""What a person sees of a job that is watched, as lines of a given width: pure functions of its progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ampd_ray.cli.output import duration, one_line
from ampd_ray.metadb.statuses import JobStatus

if TYPE_CHECKING:
    from ampd_ray.chain.ranges import Span
    from ampd_ray.client.progress import Progress

# A node reports every second: after so long without a word, say so.
SILENT_SECS = 10.0
NARROW, BAR_MIN, BAR_MAX = 20, 10, 40  # cells

Part = tuple[str, str]
"""A text and its style: ``bold``, ``dim``, ``green``, ``cyan``, ``yellow``, ``red``, or none."""
Line = Sequence[Part]


@dataclass(frozen=True)
class Subject:
    """What is watched. ``span`` is None while it follows the head; ``there_before``: blocks that it began with."""

    job_id: int
    dataset: str
    network: str | None = None
    span: Span | None = None
    tables: tuple[str, ...] = ()
    there_before: int = 0


def card(subject: Subject, now: Progress, width: int, *, secs: float = 0.0, unheard_secs: float = 0.0) -> list[Line]:
    """The lines for a terminal of ``width`` cells, none longer.

    ``secs``: for how long it has been watched; ``unheard_secs``: since the database last answered.
    """
    width = max(NARROW, width)
    lines = flow([(subject.dataset, "bold"), *_header(subject)], width)
    lines += [_table(table, now, width) for table in subject.tables or tuple(now.rows)]
    lines += _bar(subject, now, width)
    lines += flow(speed(now, unheard_secs=unheard_secs, secs=secs), width)
    return lines


def plain(subject: Subject, now: Progress) -> str:
    """The same in one line, for a log."""
    done, total = _amount(subject, now)
    if total is None:
        parts = [f"{done:,} blocks"]
    else:
        parts = [f"{int(100 * min(1.0, done / total)):3} %", f"{done:,} of {total:,} blocks"]
    return one_line("  ".join([*parts, *(text for text, _ in speed(now))]))


def speed(now: Progress, *, unheard_secs: float = 0.0, secs: float | None = None) -> list[Part]:
    """How it fares: rates, the time left and what limits, or what is wrong."""
    trouble = _trouble(now)
    if unheard_secs > SILENT_SECS:
        return [(f"the database has not answered for {_seconds(unheard_secs)}", "yellow"), *trouble]
    if now.status.terminal:
        ended = {JobStatus.COMPLETED: "green", JobStatus.STOPPED: "yellow"}
        return [(now.status.value.lower(), ended.get(now.status, "red")), *trouble]
    if now.age_secs is not None and now.age_secs > SILENT_SECS:
        return [(f"no word from {now.node_id} for {_seconds(now.age_secs)}", "yellow"), *trouble]
    parts = [] if secs is None else [(_seconds(secs), "dim")]
    if now.status in (JobStatus.STOP_REQUESTED, JobStatus.STOPPING):
        parts.append(("stopping", "yellow"))
    if not now.rpc_requests:
        return [*parts, ("starting", ""), *trouble]
    parts.append((f"{now.blocks_per_sec or 0:,.0f} blocks/s", ""))
    if now.requests_per_sec is not None:
        parts.append((f"{now.requests_per_sec:,.0f} requests/s", ""))
    if now.eta_secs:
        parts.append((f"ETA {_seconds(now.eta_secs)}", ""))
    if now.limit:
        parts.append((f"limit: {now.limit}", "cyan"))
    return [*parts, *trouble]


def flow(parts: Sequence[Part], width: int) -> list[Line]:
    """The parts in as few lines as they need, two blanks between them; one that is too long for any is cut."""
    lines: list[list[Part]] = []
    room = 0
    for said, style in parts:
        text = one_line(said)
        cut = text if len(text) <= width else text[: width - 1] + "…"
        if lines and len(cut) + 2 <= room:
            lines[-1] += [("  ", ""), (cut, style)]
            room -= len(cut) + 2
        else:
            lines.append([(cut, style)])
            room = width - len(cut)
    return list(lines)


def text_of(line: Line) -> str:
    """A line without its styles."""
    return "".join(text for text, _ in line)


def _header(subject: Subject) -> list[Part]:
    span = subject.span
    parts = [] if subject.network is None else [subject.network]
    parts.append("following the head" if span is None else f"blocks {span.start:,} to {span.end:,}")
    parts.append(f"job {subject.job_id}")
    if subject.there_before:
        parts.append(f"{subject.there_before:,} blocks were there before")
    return [(part, "") for part in parts]


def _table(table: str, now: Progress, width: int) -> Line:
    """Rows of this run. What each table has of the rate is its share of the rows, which is steadier than its own."""
    rows, total = now.rows.get(table, 0), sum(now.rows.values())
    line: list[Part] = [(f"{table:<12}{rows:>13,} rows"[:width], "")]
    if now.rows_per_sec and total and not now.status.terminal:
        rate = f"{now.rows_per_sec * rows / total:>10,.0f} rows/s"
        line += [(rate, "dim")] if len(text_of(line)) + len(rate) <= width else []
    return line


def _bar(subject: Subject, now: Progress, width: int) -> list[Line]:
    """How much is done; what was there before it began is drawn apart."""
    done, total = _amount(subject, now)
    if total is None:
        return flow([(f"{done:,} blocks", "")], width)
    share = min(1.0, done / total)
    parts = [(f"{int(100 * share):>3} %", "bold"), (f"{done:,} of {total:,} blocks", "")]
    cells = min(BAR_MAX, width - sum(len(text) + 2 for text, _ in parts))
    if cells < BAR_MIN:
        cells = min(BAR_MAX, width)
        return [_cells(share, subject.there_before / total, cells), *flow(parts, width)]
    return [[*_cells(share, subject.there_before / total, cells), ("  ", ""), parts[0], ("  ", ""), parts[1]]]


def _amount(subject: Subject, now: Progress) -> tuple[int, int | None]:
    """How many blocks, of how many; before its node has a plan, what is known without."""
    if now.total is None and subject.span is not None:
        return max(now.done, subject.there_before), len(subject.span)
    return now.done, now.total or None


def _cells(share: float, before: float, cells: int) -> list[Part]:
    filled = int(cells * share)
    old = min(filled, int(cells * before))
    return [("█" * old, "cyan"), ("█" * (filled - old), "green"), ("░" * (cells - filled), "dim")]


def _trouble(now: Progress) -> list[Part]:
    parts = [(f"{now.retries:,} {'retry' if now.retries == 1 else 'retries'}", "yellow")] if now.retries else []
    if now.holes:
        parts.append((f"{now.holes:,} {'hole' if now.holes == 1 else 'holes'}", "red"))
    return parts


def _seconds(secs: float) -> str:
    return duration(secs) if secs >= 100 else f"{secs:.0f} s"
