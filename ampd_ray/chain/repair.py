"""What to extract again so that the canonical chain becomes the provider's (``spec/data.md`` 6.2, 7).

``missing`` names the canonical file before a fork, since the fork's branch wins once that file is replaced. That is
not enough when a branch comes back: the file before the fork is as the provider has it, and the fork loses to files
of the same start only because they are newer. Then the fork's own blocks are extracted again: the newest file of a
start wins. Everything here only plans what to ask for; what is written is what the provider says.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ampd_ray.chain.ranges import BlockRange, Span, intersect
from ampd_ray.chain.segments import Chain, Segment

MAX_DEPTH = 512  # blocks that are extracted again on suspicion


def repairs(chain: Chain, wanted: Span) -> list[Span]:
    """What of ``wanted`` to extract again because of the chain's fork: the likeliest first, each to be tried once.

    1. The canonical file before the fork, if it does not end in the fork's parent: the reorg may be deeper.
    2. The fork's own blocks, if that file is as it was.
    3. From further and further back to the end of ``wanted``: then the provider is on a third branch.

    Where the fork splits off within a file, all from that file's start on: shortened alone, it would take readers
    the rest of its blocks.
    """
    if chain.fork is None:
        return []
    found = [intersect([span], wanted) for span in _likely(chain.canonical, chain.fork)]
    if not found[0]:
        return []
    likely = [span for spans in found for span in spans]
    return [*likely, *_deeper(chain.canonical, chain.fork[0].range.start, wanted)]


def _likely(canonical: Sequence[Segment], fork: Sequence[Segment]) -> Iterator[Span]:
    first, end = fork[0].range.start, fork[-1].range.end
    at = bisect_left(canonical, first, key=lambda s: s.range.start) - 1
    if at >= 0:
        before = canonical[at].range
        if before.end >= first:
            yield Span(before.start, end)
            return
        if before.end + 1 == first and before.hash != fork[0].range.prev_hash:
            yield before.span
    yield Span(first, end)


def _deeper(canonical: Sequence[Segment], first: int, wanted: Span) -> Iterator[Span]:
    above = bisect_left(canonical, first, key=lambda s: s.range.start)
    files = 1
    while True:
        start = max(canonical[max(above - files, 0)].range.start, wanted.start)
        if start > wanted.end or wanted.end - start >= MAX_DEPTH:
            return
        yield Span(start, wanted.end)
        if files >= above:
            return
        files *= 2


def would_win(canonical: Sequence[Segment], segment: Segment) -> bool:
    """True if ``segment`` would be canonical were it the newest: it starts as the chain does, or follows on it."""
    at = bisect_left(canonical, segment.range.start, key=lambda s: s.range.start)
    return segment.range.start == canonical[0].range.start if at == 0 else segment.follows(canonical[at - 1])


def twin(new: BlockRange, known: Mapping[int, BlockRange], again: Iterable[int]) -> int | None:
    """The registered file that holds just these blocks already, by id; None if they have to be written.

    Those of ``again`` do not count: they are off the canonical chain, and come back to it if they are written again.
    """
    rewritten = set(again)
    return next((file_id for file_id, held in known.items() if held == new and file_id not in rewritten), None)
