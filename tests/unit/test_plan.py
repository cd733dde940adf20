"""Units and the end of a job."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.chain.ranges import BlockRange, Span, merge
from ampd_ray.chain.segments import Segment, missing
from ampd_ray.errors import JobFailed
from ampd_ray.materialize.plan import (
    MAX_UNIT_BLOCKS,
    UNIT_BYTES,
    UNITS_PER_PASS,
    Unit,
    after,
    one_pass,
    plan,
    resolve_end,
    unit_blocks,
)

ALL = ("blocks", "transactions", "logs")

spans = st.builds(lambda start, more: Span(start, start + more), st.integers(0, 60), st.integers(0, 20))


def lacking(span: Span, tables: tuple[str, ...] = ALL) -> dict[str, list[Span]]:
    return {table: [span] for table in tables}


def test_nothing_missing_is_no_unit() -> None:
    assert list(plan({}, unit_blocks=10)) == []
    assert list(plan({table: [] for table in ALL}, unit_blocks=10)) == []


def test_a_span_that_all_tables_lack_is_cut_evenly_in_ascending_units() -> None:
    units = list(plan(lacking(Span(10, 34)), unit_blocks=10))
    assert units == [Unit(Span(10, 18), ALL), Unit(Span(19, 27), ALL), Unit(Span(28, 34), ALL)]


def test_no_sliver_is_left_at_the_end() -> None:
    assert [len(unit.span) for unit in plan(lacking(Span(0, 2000)), unit_blocks=2000)] == [1001, 1000]


def test_units_end_where_the_set_of_lacking_tables_changes() -> None:
    missing = {"blocks": [Span(0, 9)], "transactions": [], "logs": [Span(5, 14), Span(20, 21)]}
    assert list(plan(missing, unit_blocks=100)) == [
        Unit(Span(0, 4), ("blocks",)),
        Unit(Span(5, 9), ("blocks", "logs")),
        Unit(Span(10, 14), ("logs",)),
        Unit(Span(20, 21), ("logs",)),
    ]


def test_a_million_blocks_are_planned_in_few_steps() -> None:
    assert len(list(plan(lacking(Span(0, 10**9 - 1)), unit_blocks=1_000_000))) == 1000


def test_of_more_blocks_than_could_ever_be_planned_a_pass_takes_its_few() -> None:
    units = one_pass(plan(lacking(Span(0, 2**62 - 1)), unit_blocks=2_000), density_known=True, writers=3)
    assert [unit.span for unit in units] == [Span(at, at + 1_999) for at in range(0, 48_000, 2_000)]


@given(st.fixed_dictionaries({table: st.lists(spans, max_size=5) for table in ALL}), st.integers(1, 30))
def test_units_hold_exactly_what_is_missing(missing: dict[str, list[Span]], most: int) -> None:
    units = list(plan(missing, unit_blocks=most))
    for table in ALL:
        assert merge(unit.span for unit in units if table in unit.tables) == merge(missing[table])
    assert all(a.span.end < b.span.start for a, b in pairwise(units))
    assert all(1 <= len(unit.span) <= most and unit.tables for unit in units)


@pytest.mark.parametrize(
    ("bytes_per_block", "blocks"),
    [(None, 2000), (0, MAX_UNIT_BLOCKS), (1, MAX_UNIT_BLOCKS), (2**14, 16_384), (2**17, 2048), (2**20, 256), (1e12, 1)],
)
def test_a_unit_is_about_256_mib_of_files(bytes_per_block: float | None, blocks: int) -> None:
    assert unit_blocks(bytes_per_block) == blocks
    assert bytes_per_block in (None, 1e12) or blocks * (bytes_per_block or 0) <= UNIT_BYTES


@pytest.mark.parametrize(
    ("blocks", "writers", "size"), [(100_000, 4, 25_000), (100_000, 1, 100_000), (8_000, 8, 2_000), (10, 0, 2_000)]
)
def test_each_writer_gets_a_share_unless_shares_get_too_small(blocks: int, writers: int, size: int) -> None:
    assert unit_blocks(1.0, blocks=blocks, writers=writers) == size


def test_a_pass_is_short_while_nothing_has_been_measured() -> None:
    units = list(plan(lacking(Span(0, 999)), unit_blocks=10))
    assert one_pass(units, density_known=False, writers=3) == units[:3]
    assert one_pass(units, density_known=True, writers=3) == units[: 3 * UNITS_PER_PASS]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"1", []),  # the head is our tip
        (b"2", [Span(5, 9)]),  # another block of the same height: the file that ends there is extracted again
    ],
)
def test_a_head_beside_our_tip_makes_the_last_file_stale(head: bytes, expected: list[Span]) -> None:
    ours = [
        Segment(1, BlockRange("test", 0, 4, hash=b"0" * 32, prev_hash=bytes(32)), 1),
        Segment(2, BlockRange("test", 5, 9, hash=b"1" * 32, prev_hash=b"0" * 32), 2),
    ]
    assert missing([*ours, after(9, head * 32, "test")], Span(0, 9)) == expected


@pytest.mark.parametrize(
    ("end_block", "start", "head", "end"),
    [
        (None, 0, None, None),
        (None, 100, 5, None),
        ("latest", 0, 0, 0),
        ("latest", 5, 90, 90),
        ("123", 0, None, 123),
        ("123", 123, 5, 123),
        ("123", 0, 1000, 123),
        ("-100", 0, 1000, 900),
        ("-0", 0, 1000, 1000),
        ("-100", 900, 1000, 900),
    ],
)
def test_the_end_of_a_job(end_block: str | None, start: int, head: int | None, end: int | None) -> None:
    assert resolve_end(end_block, start, head) == end


@pytest.mark.parametrize(
    ("end_block", "start", "head", "retryable", "why"),
    [
        ("122", 123, 500, False, "end block 122, which lies before the start block 123"),
        ("-100", 901, 1000, False, "'-100' means block 900 at head 1000"),
        ("-100", 0, 99, False, "means block -1 at head 99"),
        ("latest", 0, None, True, "no block yet"),
        ("-5", 0, None, True, "no block yet"),
        ("latest", 100, 99, True, "has not reached the start block 100"),
        ("", 0, 9, False, "is not a number"),
        ("+5", 0, 9, False, "is not a number"),
        ("1e3", 0, 9, False, "is not a number"),
        ("9" * 5000, 0, 9, False, "is not a number"),
    ],
)
def test_an_end_that_cannot_be(end_block: str, start: int, head: int | None, retryable: bool, why: str) -> None:
    with pytest.raises(JobFailed, match=why) as caught:
        resolve_end(end_block, start, head)
    assert (caught.value.step, caught.value.retryable) == ("RESOLVE_END_BLOCK", retryable)
    assert len(str(caught.value)) < 200
