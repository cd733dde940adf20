"""The arithmetic of spans, against sets of numbers."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.chain.ranges import BlockRange, Span, intersect, merge, split, subtract, union

spans = st.builds(lambda start, more: Span(start, start + more), st.integers(0, 60), st.integers(0, 12))
groups = st.lists(spans, max_size=8)


def numbers(group: Iterable[Span]) -> set[int]:
    return {number for span in group for number in range(span.start, span.end + 1)}


def is_merged(group: list[Span]) -> bool:
    return all(a.end + 1 < b.start for a, b in pairwise(group))


@pytest.mark.parametrize(("start", "end"), [(1, 0), (-1, 3), (-2, -1)])
def test_a_span_is_neither_reversed_nor_negative(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="not a span"):
        Span(start, end)


def test_a_span_counts_and_contains_both_its_ends() -> None:
    span = Span(3, 5)
    assert len(span) == 3
    assert [number in span for number in (2, 3, 5, 6)] == [False, True, True, False]
    assert "3" not in span
    assert str(span) == "3..5"


def test_ranges_travel_between_processes() -> None:
    block_range = BlockRange("mainnet", 3, 5, b"\x05" * 32, b"\x02" * 32, 17)
    assert pickle.loads(pickle.dumps(block_range)) == block_range
    assert block_range.span == Span(3, 5)


@given(groups)
def test_merged_spans_hold_the_same_numbers_apart_from_each_other(group: list[Span]) -> None:
    merged = merge(group)
    assert numbers(merged) == numbers(group)
    assert is_merged(merged)


@given(groups, groups)
def test_subtract_is_set_difference(group: list[Span], holes: list[Span]) -> None:
    rest = subtract(group, holes)
    assert numbers(rest) == numbers(group) - numbers(holes)
    assert is_merged(rest)


@given(groups, groups)
def test_union_is_set_union(one: list[Span], other: list[Span]) -> None:
    joined = union(one, other)
    assert numbers(joined) == numbers(one) | numbers(other)
    assert is_merged(joined)


@given(groups, spans)
def test_intersect_is_set_intersection(group: list[Span], window: Span) -> None:
    inside = intersect(group, window)
    assert numbers(inside) == numbers(group) & numbers([window])
    assert is_merged(inside)


def test_one_hole_may_reach_over_several_spans() -> None:
    assert subtract([Span(0, 3), Span(5, 7), Span(9, 12)], [Span(2, 10)]) == [Span(0, 1), Span(11, 12)]
    assert subtract(Span(0, 9), [Span(3, 4)]) == [Span(0, 2), Span(5, 9)]


@given(spans, st.integers(1, 20))
def test_split_cuts_equal_pieces_and_a_rest(span: Span, size: int) -> None:
    pieces = list(split(span, size))
    assert merge(pieces) == [span]
    assert [len(piece) for piece in pieces[:-1]] == [size] * (len(pieces) - 1)
    assert 1 <= len(pieces[-1]) <= size


def test_pieces_have_at_least_one_block() -> None:
    with pytest.raises(ValueError, match="pieces of 0 blocks"):
        split(Span(0, 1), 0)
