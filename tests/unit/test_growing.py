"""A table that grows: what it keeps at hand equals what is derived from all segments, in little time."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.chain.growing import GrowingTable
from ampd_ray.chain.ranges import BlockRange, Span, subtract, union
from ampd_ray.chain.repair import repairs
from ampd_ray.chain.segments import Segment, missing, resolve
from ampd_ray.materialize.plan import after
from tests.fakes.branches import block_hash


def segment(file_id: int, start: int, end: int, before: int, branch: int, created: int = 0) -> Segment:
    return Segment(
        file_id, BlockRange("net", start, end, block_hash(end, branch), block_hash(start - 1, before)), created
    )


rows = st.tuples(st.integers(0, 14), st.integers(0, 4), st.integers(0, 1), st.integers(0, 1))
wild = st.lists(rows, max_size=12).map(lambda found: [(a, a + more, p, q) for a, more, p, q in found])
tame = st.lists(st.integers(1, 3), max_size=8).map(
    lambda sizes: [(sum(sizes[:i]), sum(sizes[: i + 1]) - 1, 0, 0) for i in range(len(sizes))]
)
histories = st.tuples(tame, wild).map(lambda parts: [*parts[0], *parts[1]]) | st.tuples(wild, tame).map(
    lambda parts: [*parts[0], *parts[1]]
)


@settings(max_examples=600, deadline=None)
@given(histories, st.integers(0, 4), st.integers(0, 22), st.integers(0, 1), st.booleans())
def test_what_is_lacking_is_what_is_missing_or_a_repair_of_the_fork(
    history: list[tuple[int, int, int, int]], loaded: int, head: int, branch: int, has_head: bool
) -> None:
    held = [segment(i + 1, *row, created=i + 1) for i, row in enumerate(history)]
    table = GrowingTable(held[:loaded])
    wanted = Span(0, head)
    beside = after(head, block_hash(head, branch), "net") if has_head else None
    for count in range(min(loaded, len(held)), len(held) + 1):
        if count > loaded:
            table.add(held[count - 1])
        have = held[:count]
        chain = resolve(have if beside is None else [*have, beside])
        at_once = table.lacking_at_once(wanted, beside)
        fully = table.lacking(wanted, beside)
        assert at_once in (None, fully)
        gaps = subtract(wanted, (s.range.span for s in have))
        candidates = repairs(chain, wanted) if chain and chain.canonical[-1] is not beside else []
        assert list(fully.spans) == union(gaps, candidates[:1])
        assert fully.repairs == bool(candidates)
        if chain is None or chain.fork is None:
            assert list(fully.spans) == missing(have if beside is None else [*have, beside], wanted)
        assert table.newest_ns == count


@given(wild, st.integers(0, 14), st.integers(0, 5), st.integers(0, 12))
def test_overlaps_are_found_as_by_looking_at_each(
    history: list[tuple[int, int, int, int]], start: int, more: int, loaded: int
) -> None:
    held = [segment(i + 1, *row, created=i + 1) for i, row in enumerate(history)]
    table = GrowingTable(held[:loaded])
    for one in held[loaded:]:
        table.add(one)
    span = Span(start, start + more)
    found = table.overlapped(span)
    assert found == sorted(found, key=lambda s: s.range.start)
    assert {s.file_id for s in found} == {
        s.file_id for s in held if s.range.start <= span.end and span.start <= s.range.end
    }


def followed(files: int) -> GrowingTable:
    table = GrowingTable(segment(i + 1, i, i, 0, 0, i + 1) for i in range(files))
    table.lacking(Span(0, files - 1))  # as at a job's first plan
    return table


def poll(table: GrowingTable, head: int) -> None:
    """A new block at the head, as a job takes it: planned, written, and planned again beside the head."""
    wanted = Span(0, head)
    for beside in (None, after(head, block_hash(head, 0), "net")):
        lacking = table.lacking_at_once(wanted, beside)
        assert lacking is not None
        assert lacking.spans == (Span(head, head),)
    assert table.overlapped(Span(head, head)) == []
    assert table.again(Span(head, head)) == frozenset()
    table.add(segment(head + 1, head, head, 0, 0, head + 1))
    assert table.newest_ns == head + 1
    lacking = table.lacking_at_once(wanted, after(head, block_hash(head, 0), "net"))
    assert lacking is not None
    assert lacking.spans == ()


def test_following_the_head_does_not_get_slower_with_the_number_of_files() -> None:
    def best(files: int) -> float:
        table, times = followed(files), []
        for head in range(files, files + 200):
            began = time.perf_counter()
            poll(table, head)
            times.append(time.perf_counter() - began)
        return sorted(times)[20]

    few, many = best(1_000), best(100_000)
    assert many < 20 * few  # a hundred times the files
