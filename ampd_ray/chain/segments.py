"""Which committed segments form the canonical chain, and which blocks are missing (``spec/data.md`` 6).

Files of a table may overlap: a reorg leaves both branches, a repair supersedes its predecessor, a compaction its
inputs. Nothing marks the winner in Amp's tables; every reader derives it from the rows with the rules below.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ampd_ray.chain.ranges import BlockRange, Span, intersect, subtract, union


@dataclass(frozen=True, slots=True)
class Segment:
    """One committed file. ``created_ns`` (Unix nanoseconds) breaks ties: of two equal starts the newer one wins."""

    file_id: int
    range: BlockRange
    created_ns: int
    generation: int = 0

    def follows(self, before: Segment) -> bool:
        """True if ``self`` continues ``before``; a number gap is allowed (chains with skipped slots)."""
        mine, theirs = self.range, before.range
        return mine.network == theirs.network and theirs.end < mine.start and theirs.hash == mine.prev_hash


@dataclass(frozen=True, slots=True)
class Chain:
    """The canonical segments in order, and those of a higher fork that reaches back to them, if there is one."""

    canonical: tuple[Segment, ...]
    fork: tuple[Segment, ...] | None = None


def resolve(segments: Iterable[Segment]) -> Chain | None:
    """The canonical chain and its fork; None without segments. O(n log n), the same for any order of the input."""
    order = sorted(segments, key=lambda s: (s.range.start, -s.created_ns, -s.file_id))
    if not order:
        return None
    canonical = [order[0]]
    others: list[Segment] = []
    for segment in order[1:]:
        (canonical if segment.follows(canonical[-1]) else others).append(segment)
    return Chain(tuple(canonical), _fork(canonical, others))


def _fork(canonical: list[Segment], others: list[Segment]) -> tuple[Segment, ...] | None:
    """The path of ``others`` that ends above the canonical tip (highest, then newest) and starts at or below it + 1."""
    others = sorted(others, key=lambda s: (s.range.end, s.created_ns, s.file_id))
    before = _predecessors(canonical, others)
    first = list(range(len(others)))  # where the path that ends in others[i] starts; predecessors come earlier
    for i, previous in enumerate(before):
        if previous is not None:
            first[i] = first[previous]
    tip = canonical[-1].range.end
    for i in reversed(range(len(others))):
        if others[i].range.end <= tip:
            return None
        if others[first[i]].range.start <= tip + 1:
            return _path(others, before, i)
    return None


def _predecessors(canonical: list[Segment], others: list[Segment]) -> list[int | None]:
    """For each of ``others`` the last one that it follows; None if there is none, or at the split point."""
    owned = {(segment.range.end, segment.range.hash) for segment in canonical}
    ending_in: defaultdict[tuple[str, bytes], list[int]] = defaultdict(list)
    for i, segment in enumerate(others):
        ending_in[segment.range.network, segment.range.hash].append(i)
    before: list[int | None] = []
    for segment in others:
        candidates = ending_in.get((segment.range.network, segment.range.prev_hash), [])
        at = bisect_left(candidates, segment.range.start, key=lambda i: others[i].range.end)
        previous = candidates[at - 1] if at else None
        # The same state as the canonical chain: here the fork splits off.
        if previous is not None and (others[previous].range.end, others[previous].range.hash) in owned:
            previous = None
        before.append(previous)
    return before


def _path(others: list[Segment], before: list[int | None], last: int) -> tuple[Segment, ...]:
    path, at = [others[last]], before[last]
    while at is not None:
        path.append(others[at])
        at = before[at]
    return tuple(reversed(path))


def missing(segments: Sequence[Segment], wanted: Span) -> list[Span]:
    """The blocks of ``wanted`` to extract: in no segment, or canonical ones from which a higher fork splits off."""
    gaps = subtract(wanted, (segment.range.span for segment in segments))
    chain = resolve(segments)
    if chain is None or chain.fork is None:
        return gaps
    stale = _stale(chain.canonical, max(chain.fork[0].range.start - 1, 0))
    return union(gaps, intersect([stale], wanted)) if stale else gaps


def _stale(canonical: tuple[Segment, ...], split: int) -> Span | None:
    """What to extract again so that the branch of the fork wins: the canonical file that holds the split point."""
    at = bisect_right(canonical, split, key=lambda s: s.range.start) - 1
    if at < 0 or canonical[at].range.end < split:
        return None
    return Span(canonical[at].range.start, split)


def canonical_flags(segments: Iterable[Segment]) -> dict[int, bool]:
    """Per file id, whether ``ampd_ray.segment`` calls it canonical: the chain, then whatever overlaps no chosen one.

    Newest first. The flagged spans are disjoint (the database's exclusion constraint demands it) and cover what the
    chain covers, and data behind a gap too.
    """
    segments = list(segments)
    chain = resolve(segments)
    chosen = list(chain.canonical) if chain else []
    flags = dict.fromkeys((segment.file_id for segment in segments), False)
    flags.update((segment.file_id, True) for segment in chosen)
    for segment in sorted(segments, key=lambda s: (s.created_ns, s.file_id), reverse=True):
        at = bisect_right(chosen, segment.range.end, key=lambda s: s.range.start)
        if at == 0 or chosen[at - 1].range.end < segment.range.start:
            chosen.insert(at, segment)
            flags[segment.file_id] = True
    return flags
