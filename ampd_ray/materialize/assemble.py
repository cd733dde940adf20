"""Put extracts back into block order and decide where files end (``spec/data.md`` 4.4).

One assembler serves one partition: the ordered spans that one writer writes, for one set of tables. Extracts come in
any order; what comes early is kept. The instructions depend on the extracts alone, never on their order of arrival.

=========  ====================================================================================================
FINALITY   after the finalized block: no file holds both final and unfinal blocks
BLOCKS     the file holds as many blocks as a file may
REORG      the next block's parent is not the block before: both sides are kept, the planner sees the fork
SIZE       the file's estimated bytes have reached the limit; looked at where an extract ends
GAP, END   the partition goes on behind a gap or a block that it does without, or is complete
AGE, STOP  by :meth:`Assembler.flush`: the file has been open for long, or the job stops
=========  ====================================================================================================
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from ampd_ray.chain.links import BlockLinks
from ampd_ray.chain.ranges import Span, merge
from ampd_ray.errors import DataFault


class Reason(StrEnum):
    """Why a file ends."""

    FINALITY = "finality"
    BLOCKS = "blocks"
    REORG = "reorg"
    SIZE = "size"
    GAP = "gap"
    END = "end"
    AGE = "age"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one file may hold: estimated file ``bytes`` (ends at the next extract) and ``blocks`` (exact)."""

    bytes: int
    blocks: int = 1_000_000

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise ValueError(f"files of {self.blocks} blocks")


@dataclass(frozen=True, slots=True)
class WriteRows:
    """Append to the open file an extract's blocks ``first`` to ``last``: its positions ``lo`` to ``hi``, excluded."""

    payload: Any
    lo: int
    hi: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class CutSegment:
    """Close the open file of every table: it holds exactly the blocks ``start`` to ``end``.

    ``hash`` and ``timestamp`` (Unix seconds) are those of the last block, ``prev_hash`` is the parent of the first.
    """

    reason: Reason
    start: int
    end: int
    hash: bytes
    prev_hash: bytes
    timestamp: int


Instruction = WriteRows | CutSegment


@dataclass(frozen=True, slots=True)
class _Extract:
    span: Span
    links: BlockLinks
    payload: Any
    bytes: int
    breaks: list[int]


@dataclass(slots=True)
class _OpenFile:
    start: int
    prev_hash: bytes
    end: int
    hash: bytes = b""
    timestamp: int = 0
    bytes: int = 0


class Assembler:
    """The open file of one partition and the extracts that came early."""

    def __init__(self, spans: Sequence[Span], limits: Limits, *, finalized: int | None = None) -> None:
        """``spans`` ascend and are disjoint; ``finalized`` is the highest final block, None if it does not matter."""
        if any(a.end >= b.start for a, b in pairwise(spans)):
            raise ValueError("the spans of a partition ascend and are disjoint")
        self._spans = merge(spans)
        self._limits = limits
        self._finalized = finalized
        self._next = self._spans[0].start if self._spans else None
        self._early: dict[int, _Extract | None] = {}  # by first block; None for blocks that are done without
        self._early_spans: list[Span] = []  # ascending
        self._open: _OpenFile | None = None
        self._stopped = False  # before its last block

    @property
    def next_block(self) -> int | None:
        """The lowest block that has not been appended; None when there is none left."""
        return self._next

    @property
    def finished(self) -> bool:
        """True if every block has been appended; nothing is open then."""
        return self._next is None and not self._stopped

    @property
    def open_span(self) -> Span | None:
        """The blocks of the open file; None while there is none."""
        return Span(self._open.start, self._open.end) if self._open else None

    @property
    def open_bytes(self) -> int:
        """The estimated bytes of the open file."""
        return self._open.bytes if self._open else 0

    @property
    def pending(self) -> tuple[Span, ...]:
        """The extracts that came early, ascending."""
        return tuple(self._early_spans)

    def push(self, span: Span, links: BlockLinks, payload: Any, nbytes: int) -> list[Instruction]:
        """Take the extract of ``span``, about ``nbytes`` of file; return what can be done now, in order.

        Raises ValueError if these blocks are not expected (outside the partition, or delivered before), DataFault if
        ``links`` are not those of every block of the span. Nothing has changed then.
        """
        if self._stopped:
            return []
        self._expect(span)
        if len(links) != len(span) or (links.first, links.last) != (span.start, span.end):
            held = f"{len(links)} blocks, {links.first}..{links.last}" if len(links) else "no block"
            raise DataFault(f"blocks {span}: the extract holds {held}", block=span.start)
        return self._take(span, _Extract(span, links, payload, nbytes, links.breaks()))

    def skip(self, span: Span) -> list[Instruction]:
        """Do without the blocks of ``span``: no file reaches across them. Raises ValueError as ``push`` does."""
        if self._stopped:
            return []
        self._expect(span)
        return self._take(span, None)

    def _take(self, span: Span, extract: _Extract | None) -> list[Instruction]:
        self._early_spans.insert(bisect_left(self._early_spans, span), span)
        self._early[span.start] = extract
        instructions: list[Instruction] = []
        while self._next is not None and self._next in self._early:
            span, extract = self._early_spans.pop(0), self._early.pop(self._next)
            instructions += self._pass_over(span) if extract is None else self._append(extract)
        return instructions

    def flush(self, reason: str) -> list[Instruction]:
        """Close the open file, if there is one, because of its ``age`` or a ``stop``.

        At a stop the extracts that came early are put into files of their own: what is missing between them is somebody
        else's. Extracts that a stop overtakes on their way come too late: nothing is taken of them.
        """
        if reason not in (Reason.AGE, Reason.STOP):
            raise ValueError(f"nobody decides {reason} from outside")
        instructions: list[Instruction] = [self._cut(Reason(reason))] if self._open else []
        if reason == Reason.STOP:
            self._stopped = self._next is not None
            instructions += self._end_early()
        return instructions

    def _end_early(self) -> Iterator[Instruction]:
        for span in self._early_spans:
            extract = self._early[span.start]
            if self._open and (extract is None or span.start != self._next):
                yield self._cut(Reason.GAP)
            if extract is not None:
                self._next = span.start
                yield from self._append(extract)
        if self._open:
            yield self._cut(Reason.STOP)
        self._early_spans, self._early = [], {}

    def _expect(self, span: Span) -> None:
        home = bisect_right(self._spans, span.start, key=lambda s: s.start) - 1
        if home < 0 or span.end > self._spans[home].end:
            raise ValueError(f"blocks {span} are not of this partition")
        at = bisect_right(self._early_spans, span.end, key=lambda s: s.start)
        if self._next is None or span.start < self._next or (at and self._early_spans[at - 1].end >= span.start):
            raise ValueError(f"blocks {span} were delivered before")

    def _pass_over(self, span: Span) -> Iterator[Instruction]:
        self._go_on(span)
        if self._open:
            yield self._cut(Reason.END if self.finished else Reason.GAP)

    def _append(self, extract: _Extract) -> Iterator[Instruction]:
        links, lo = extract.links, 0
        if self._open and self._open.hash != links.parent(0):
            yield self._cut(Reason.REORG)
        while lo < len(links):
            hi, reason = self._next_cut(extract, lo)
            yield self._write(extract, lo, hi)
            if hi == len(links):
                reason = self._go_on(extract.span) or reason
                if reason is None and self.open_bytes >= self._limits.bytes:
                    reason = Reason.SIZE
            if reason:
                yield self._cut(reason)
            lo = hi

    def _next_cut(self, extract: _Extract, lo: int) -> tuple[int, Reason | None]:
        """The position, above ``lo``, before which the file must end; the extract's end, without a reason, if none."""
        held = len(self.open_span or ())
        cuts: list[tuple[int, Reason | None]] = [(lo + self._limits.blocks - held, Reason.BLOCKS)]
        if self._finalized is not None and self._finalized >= extract.span.start + lo:
            cuts.insert(0, (self._finalized + 1 - extract.span.start, Reason.FINALITY))
        at = bisect_right(extract.breaks, lo)
        cuts += [(position, Reason.REORG) for position in extract.breaks[at : at + 1]]
        cuts.append((len(extract.links), None))
        return min(cuts, key=lambda cut: cut[0])  # the first one of equals

    def _write(self, extract: _Extract, lo: int, hi: int) -> WriteRows:
        links, blocks = extract.links, len(extract.links)
        first, last = extract.span.start + lo, extract.span.start + hi - 1
        if self._open is None:
            self._open = _OpenFile(first, links.parent(lo), last)
        self._open.end, self._open.hash, self._open.timestamp = last, links.hash(hi - 1), links.timestamp(hi - 1)
        # Each block counts for an equal share, so that the shares of an extract add up to the whole.
        self._open.bytes += extract.bytes * hi // blocks - extract.bytes * lo // blocks
        return WriteRows(extract.payload, lo, hi, first, last)

    def _go_on(self, done: Span) -> Reason | None:
        """Move to the block after ``done``; say why the file must end if that is not the next number."""
        following = bisect_right(self._spans, done.end, key=lambda s: s.start)
        if done.end < self._spans[following - 1].end:
            self._next = done.end + 1
            return None
        self._next = self._spans[following].start if following < len(self._spans) else None
        return Reason.GAP if self._next is not None else Reason.END

    def _cut(self, reason: Reason) -> CutSegment:
        assert self._open is not None
        done, self._open = self._open, None
        return CutSegment(reason, done.start, done.end, done.hash, done.prev_hash, done.timestamp)
