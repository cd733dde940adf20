"""The segments of one table as they grow, with what planning asks of them kept at hand.

While each new file follows the last one, as at the head of a chain, every question takes the same time however many
files there are; what a fork or a late file changes is derived anew from all of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import accumulate

from ampd_ray.chain.ranges import Span, merge, subtract, union
from ampd_ray.chain.repair import repairs, would_win
from ampd_ray.chain.segments import Chain, Segment, resolve


@dataclass(frozen=True, slots=True)
class Lacking:
    """Blocks that a table lacks; ``repairs``: some of them are in a file already, which is to be replaced."""

    spans: tuple[Span, ...]
    repairs: bool = False


@dataclass(slots=True)
class _Resolved:
    """The canonical segments in order, and the others. ``settled``: none of those ends above the chain."""

    canonical: list[Segment]
    others: list[Segment]
    settled: bool


class GrowingTable:
    """The registered segments of one table, in any order."""

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        self._segments = sorted(segments, key=_start)
        self._reach = list(accumulate((s.range.end for s in self._segments), max))  # the highest end so far
        self._covered = merge(s.range.span for s in self._segments)
        self._resolved: _Resolved | None = None
        self._confirmed: dict[int, Span] = {}  # files whose blocks the provider gave again, just as they are
        self._quiet_for: tuple[Span, Segment | None] | None = None
        self.newest_ns = max((s.created_ns for s in self._segments), default=0)

    def add(self, segment: Segment) -> None:
        """A file was registered."""
        span = segment.range.span
        if self.overlapped(span):
            self._confirmed.clear()  # it may have changed what is canonical
        self._insert(segment)
        self._covered = _cover(self._covered, span)
        self.newest_ns = max(self.newest_ns, segment.created_ns)
        held = self._resolved
        if held is not None and held.settled and (not held.canonical or segment.follows(held.canonical[-1])):
            held.canonical.append(segment)
        else:
            self._resolved = None

    def confirm(self, file_id: int, span: Span) -> None:
        """The blocks of a registered file were extracted again, and it is as the provider has it."""
        self._confirmed[file_id] = span

    def without(self, file_ids: Collection[int]) -> GrowingTable:
        """The same without some files, which are registered no more."""
        return GrowingTable(segment for segment in self._segments if segment.file_id not in file_ids)

    def overlapped(self, span: Span) -> list[Segment]:
        """The segments that share a block with ``span``, ascending by start."""
        at = bisect_right(self._segments, span.end, key=_start)
        low = bisect_left(self._reach, span.start, 0, at)
        return [segment for segment in self._segments[low:at] if segment.range.end >= span.start]

    def again(self, span: Span) -> frozenset[int]:
        """The files within ``span``, by id, that are off the chain and would be on it if they were the newest."""
        found = self.overlapped(span)
        if not found:
            return frozenset()
        canonical = self._resolve().canonical
        chosen = {segment.file_id for segment in canonical}
        held = {segment.range for segment in found if segment.file_id in chosen}
        return frozenset(s.file_id for s in found if s.range not in held and would_win(canonical, s))

    # -- what is missing ------------------------------------------------------------------------------------------

    def lacking_at_once(self, wanted: Span, beside: Segment | None = None) -> Lacking | None:
        """As ``lacking``, if that is seen without going through all segments; else None."""
        if self._segments and (self._resolved is None or not self._resolved.settled):
            return None
        if self._resolved is not None and self._segments and beside is not None:
            tip, start = self._resolved.canonical[-1], beside.range.start
            if start <= tip.range.end:
                return None
            if not beside.follows(tip) and (
                start == tip.range.end + 1
                or any(other.range.hash == beside.range.prev_hash for other in self._resolved.others)
            ):
                return None
        return Lacking(tuple(subtract(wanted, self._covered)))

    def lacking(self, wanted: Span, beside: Segment | None = None) -> Lacking:
        """The blocks of ``wanted`` to extract: those in no segment, and what a fork calls for.

        ``beside`` counts as registered: the block above the provider's head, which shows what branch that is on.
        """
        gaps = subtract(wanted, self._covered)
        self._resolve()
        chain = resolve(self._segments if beside is None else [*self._segments, beside])
        if chain is None or chain.fork is None or chain.canonical[-1] is beside:  # our chain is the provider's
            return Lacking(tuple(gaps))
        repair = self._repair(chain, wanted, beside)
        return Lacking(tuple(union(gaps, repair)), repairs=bool(repair))

    def _repair(self, chain: Chain, wanted: Span, beside: Segment | None) -> list[Span]:
        """What is left of the first repair that has not just turned out to change nothing."""
        asked = (wanted, beside)
        if self._quiet_for not in (None, asked):
            self._confirmed.clear()
            self._quiet_for = None
        candidates = repairs(chain, wanted)
        if self._proven(chain, wanted):
            assert chain.fork is not None
            if beside is None or chain.fork[-1] is not beside:  # the fork is an old branch, still higher than the head
                self._quiet_for = asked
                return []
            candidates = candidates[:1]  # the provider contradicts its own head
        known = merge(self._confirmed.values())
        for candidate in candidates:
            if left := subtract(candidate, known):
                return left
        self._confirmed.clear()
        return candidates[:1]

    def _proven(self, chain: Chain, wanted: Span) -> bool:
        """True if the provider gave the canonical file at the end of ``wanted`` again just as it is."""
        at = bisect_right(chain.canonical, wanted.end, key=_start) - 1
        return (
            at >= 0 and chain.canonical[at].range.end >= wanted.end and chain.canonical[at].file_id in self._confirmed
        )

    # -- keeping it at hand ---------------------------------------------------------------------------------------

    def _resolve(self) -> _Resolved:
        if self._resolved is None:
            chain = resolve(self._segments)
            canonical = list(chain.canonical) if chain else []
            chosen = {segment.file_id for segment in canonical}
            others = [segment for segment in self._segments if segment.file_id not in chosen]
            settled = all(other.range.end <= canonical[-1].range.end for other in others)
            self._resolved = _Resolved(canonical, others, settled)
        return self._resolved

    def _insert(self, segment: Segment) -> None:
        at = bisect_right(self._segments, segment.range.start, key=_start)
        end = segment.range.end
        self._segments.insert(at, segment)
        self._reach.insert(at, max(end, self._reach[at - 1]) if at else end)
        for i in range(at + 1, len(self._reach)):
            if self._reach[i] >= end:
                break
            self._reach[i] = end


def _start(segment: Segment) -> int:
    return segment.range.start


def _cover(covered: list[Span], span: Span) -> list[Span]:
    """Merged spans with one more, in place."""
    low = bisect_left(covered, span.start - 1, key=lambda s: s.end)
    high = bisect_right(covered, span.end + 1, key=lambda s: s.start)
    covered[low:high] = merge([*covered[low:high], span])
    return covered
