"""Block spans and ranges: numbers only, and numbers with the hashes that make them unambiguous.

Lists of spans are *merged* when they are ascending, disjoint and do not touch. The helpers below take spans in any
order, overlapping or not, and return merged ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Block numbers ``start`` to ``end``, both inclusive."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"not a span: {self.start}..{self.end}")

    def __len__(self) -> int:
        return self.end - self.start + 1

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.start <= number <= self.end

    def __str__(self) -> str:
        return f"{self.start}..{self.end}"


@dataclass(frozen=True, slots=True)
class BlockRange:
    """The blocks ``start`` to ``end`` of one branch: ``hash`` of the last, ``prev_hash`` = parent of the first.

    Hashes are 32 raw bytes; ``timestamp`` is that of the last block in Unix seconds, None in old files.
    """

    network: str
    start: int
    end: int
    hash: bytes
    prev_hash: bytes
    timestamp: int | None = None

    @property
    def span(self) -> Span:
        """The numbers alone."""
        return Span(self.start, self.end)


def merge(spans: Iterable[Span]) -> list[Span]:
    """The same numbers as ascending spans that neither overlap nor touch."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].end + 1:
            if span.end > merged[-1].end:
                merged[-1] = Span(merged[-1].start, span.end)
        else:
            merged.append(span)
    return merged


def union(*groups: Iterable[Span]) -> list[Span]:
    """The numbers that are in any of the groups."""
    return merge(span for group in groups for span in group)


def intersect(spans: Iterable[Span], window: Span) -> list[Span]:
    """The numbers of ``spans`` that lie in ``window``."""
    return [
        Span(max(span.start, window.start), min(span.end, window.end))
        for span in merge(spans)
        if span.start <= window.end and span.end >= window.start
    ]


def subtract(spans: Span | Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """The numbers of ``spans`` that no hole contains, in O(n log n)."""
    rest: list[Span] = []
    cuts, at = merge(holes), 0
    for span in merge([spans] if isinstance(spans, Span) else spans):
        start = span.start
        while at < len(cuts) and cuts[at].start <= span.end:
            hole = cuts[at]
            if hole.start > start:
                rest.append(Span(start, hole.start - 1))
            start = max(start, hole.end + 1)
            if hole.end > span.end:
                break  # it may reach into the next span
            at += 1
        if start <= span.end:
            rest.append(Span(start, span.end))
    return rest


def split(span: Span, size: int) -> Iterator[Span]:
    """Cut ``span`` into pieces of ``size`` numbers, the last one shorter; none is made before it is asked for."""
    if size < 1:
        raise ValueError(f"pieces of {size} blocks")
    return (Span(start, min(start + size - 1, span.end)) for start in range(span.start, span.end + 1, size))
