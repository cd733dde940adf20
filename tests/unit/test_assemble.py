"""Any order of arrival gives the same files, and every file ends where ``spec/data.md`` 4.4 says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.chain.links import BlockLinks
from ampd_ray.chain.ranges import Span
from ampd_ray.errors import DataFault
from ampd_ray.materialize.assemble import Assembler, CutSegment, Instruction, Limits, Reason, WriteRows

PLENTY = Limits(bytes=2**40)


def digest(number: int, branch: int = 0) -> bytes:
    return (number + 1).to_bytes(16, "big") + branch.to_bytes(16, "big")


@dataclass(frozen=True)
class Arrival:
    span: Span
    links: BlockLinks
    nbytes: int = 100


def arrival(start: int, end: int, branch_at: dict[int, int] | None = None, nbytes: int = 100) -> Arrival:
    """Blocks ``start`` to ``end``; a block's parent is on its own branch, so a change of branch is a reorg."""
    branches = branch_at or {}
    links = BlockLinks.from_blocks(
        (n, digest(n, branches.get(n, 0)), digest(n - 1, branches.get(n, 0)), 1000 + n) for n in range(start, end + 1)
    )
    return Arrival(Span(start, end), links, nbytes)


def push(assembler: Assembler, one: Arrival) -> list[Instruction]:
    return assembler.push(one.span, one.links, one, one.nbytes)


def run(assembler: Assembler, arrivals: Sequence[Arrival]) -> list[Instruction]:
    return [instruction for one in arrivals for instruction in push(assembler, one)]


def story(instructions: Sequence[Instruction]) -> str:
    """The instructions in short: ``+0..4`` for rows, ``|end 0..4`` for a cut."""
    return " ".join(
        f"+{i.first}..{i.last}" if isinstance(i, WriteRows) else f"|{i.reason} {i.start}..{i.end}" for i in instructions
    )


def test_a_partition_in_order_is_one_file() -> None:
    assembler = Assembler([Span(0, 9)], PLENTY)
    assert story(run(assembler, [arrival(0, 4), arrival(5, 9)])) == "+0..4 +5..9 |end 0..9"
    assert assembler.finished
    assert assembler.next_block is None
    assert assembler.open_span is None


def test_early_extracts_wait_for_the_lower_ones() -> None:
    assembler = Assembler([Span(0, 8)], PLENTY)
    assert push(assembler, arrival(6, 8)) == push(assembler, arrival(3, 5)) == []
    assert list(assembler.pending) == [Span(3, 5), Span(6, 8)]
    assert (assembler.next_block, assembler.open_span, assembler.finished) == (0, None, False)
    assert story(push(assembler, arrival(0, 2))) == "+0..2 +3..5 +6..8 |end 0..8"
    assert assembler.pending == ()


def test_the_open_file_is_told() -> None:
    assembler = Assembler([Span(0, 8)], PLENTY)
    run(assembler, [arrival(0, 2, nbytes=7), arrival(3, 4, nbytes=5)])
    assert (assembler.open_span, assembler.open_bytes, assembler.next_block) == (Span(0, 4), 12, 5)


def test_instructions_name_positions_and_the_links_of_the_file() -> None:
    one = arrival(10, 14, {13: 1, 14: 1})
    first, cut, second, end = run(Assembler([Span(10, 14)], PLENTY), [one])
    assert first == WriteRows(one, 0, 3, 10, 12)
    assert cut == CutSegment(Reason.REORG, 10, 12, digest(12), digest(9), 1012)
    assert second == WriteRows(one, 3, 5, 13, 14)
    assert end == CutSegment(Reason.END, 13, 14, digest(14, 1), digest(12, 1), 1014)


def test_a_reorg_between_two_extracts_splits_the_file_there() -> None:
    on_another_branch = dict.fromkeys(range(5, 10), 1)
    told = run(Assembler([Span(0, 9)], PLENTY), [arrival(0, 4), arrival(5, 9, on_another_branch)])
    assert story(told) == "+0..4 |reorg 0..4 +5..9 |end 5..9"


def test_a_reorg_behind_a_file_that_is_closed_already_splits_nothing() -> None:
    told = run(
        Assembler([Span(0, 9)], PLENTY, finalized=4), [arrival(0, 4), arrival(5, 9, dict.fromkeys(range(5, 10), 1))]
    )
    assert story(told) == "+0..4 |finality 0..4 +5..9 |end 5..9"


def test_no_file_holds_both_final_and_unfinal_blocks() -> None:
    assert story(run(Assembler([Span(0, 9)], PLENTY, finalized=6), [arrival(0, 9)])) == (
        "+0..6 |finality 0..6 +7..9 |end 7..9"
    )
    assert story(run(Assembler([Span(0, 9)], PLENTY, finalized=9), [arrival(0, 9)])) == "+0..9 |end 0..9"
    assert story(run(Assembler([Span(5, 9)], PLENTY, finalized=4), [arrival(5, 9)])) == "+5..9 |end 5..9"


def test_blocks_are_counted_exactly_over_extracts() -> None:
    told = run(Assembler([Span(0, 9)], Limits(2**40, blocks=4)), [arrival(0, 2), arrival(3, 9)])
    assert story(told) == "+0..2 +3..3 |blocks 0..3 +4..7 |blocks 4..7 +8..9 |end 8..9"
    told = run(Assembler([Span(0, 7)], Limits(2**40, blocks=4)), [arrival(0, 3), arrival(4, 7)])
    assert story(told) == "+0..3 |blocks 0..3 +4..7 |end 4..7"


def test_a_file_ends_with_the_extract_that_fills_it() -> None:
    told = run(Assembler([Span(0, 9)], Limits(150)), [arrival(0, 1), arrival(2, 3), arrival(4, 7), arrival(8, 9)])
    assert story(told) == "+0..1 +2..3 |size 0..3 +4..7 +8..9 |end 4..9"


def test_a_file_that_holds_just_the_limit_is_full() -> None:
    assert story(run(Assembler([Span(0, 9)], Limits(100)), [arrival(0, 1)])) == "+0..1 |size 0..1"


def test_where_several_rules_end_a_file_the_reason_is_the_same_for_any_cut_into_extracts() -> None:
    branches = {n: n // 4 for n in range(12)}
    for cuts in ([0, 12], [0, 4, 12], [0, 8, 12], [0, 4, 8, 12]):
        arrivals = [arrival(a, b - 1, branches) for a, b in pairwise(cuts)]
        told = run(Assembler([Span(0, 11)], Limits(2**40, blocks=4), finalized=3), arrivals)
        reasons = [i.reason for i in told if isinstance(i, CutSegment)]
        assert reasons == [Reason.FINALITY, Reason.BLOCKS, Reason.END]


def test_a_cut_extract_counts_in_proportion() -> None:
    assembler = Assembler([Span(0, 19)], Limits(1000), finalized=2)
    run(assembler, [arrival(0, 9, nbytes=1001)])
    assert (assembler.open_span, assembler.open_bytes) == (Span(3, 9), 1001 - 300)


def test_a_gap_between_spans_ends_the_file_at_once_and_touching_spans_do_not() -> None:
    assembler = Assembler([Span(0, 3), Span(4, 5), Span(8, 9)], PLENTY)
    assert story(run(assembler, [arrival(0, 4), arrival(5, 5)])) == "+0..4 +5..5 |gap 0..5"
    assert (assembler.next_block, assembler.finished) == (8, False)
    assert story(run(assembler, [arrival(8, 9)])) == "+8..9 |end 8..9"


def test_no_file_reaches_across_a_block_that_is_done_without() -> None:
    assembler = Assembler([Span(0, 5)], PLENTY)
    assert story(push(assembler, arrival(0, 2))) == "+0..2"
    assert story(assembler.skip(Span(3, 3))) == "|gap 0..2"
    assert assembler.next_block == 4
    assert story(push(assembler, arrival(4, 5))) == "+4..5 |end 4..5"


def test_blocks_that_are_done_without_are_passed_over_when_their_turn_comes() -> None:
    assembler = Assembler([Span(0, 5)], PLENTY)
    assert assembler.skip(Span(5, 5)) == []
    assert assembler.skip(Span(3, 3)) == []
    assert push(assembler, arrival(4, 4)) == []
    assert assembler.pending == (Span(3, 3), Span(4, 4), Span(5, 5))
    assert story(push(assembler, arrival(0, 2))) == "+0..2 |gap 0..2 +4..4 |end 4..4"
    assert assembler.finished
    assert len(assembler.pending) == 0


def test_a_partition_may_do_without_all_its_blocks() -> None:
    assembler = Assembler([Span(0, 0), Span(2, 2)], PLENTY)
    assert assembler.skip(Span(2, 2)) + assembler.skip(Span(0, 0)) == []
    assert assembler.finished
    with pytest.raises(ValueError, match="delivered before"):
        assembler.skip(Span(0, 0))


def test_flush_closes_what_is_open_and_keeps_what_is_early() -> None:
    assembler = Assembler([Span(0, 9)], PLENTY)
    assert assembler.flush("age") == []
    run(assembler, [arrival(0, 2), arrival(6, 9)])
    assert story(assembler.flush("age")) == "|age 0..2"
    assert assembler.flush("age") == []
    assert assembler.pending == (Span(6, 9),)
    assert story(run(assembler, [arrival(3, 5)])) == "+3..5 +6..9 |end 3..9"


def test_a_stop_closes_what_came_early_too_each_run_of_it_in_a_file() -> None:
    assembler = Assembler([Span(0, 49)], PLENTY)
    early = [arrival(0, 2), arrival(6, 9), arrival(10, 14), arrival(20, 24), arrival(40, 49)]
    assert story(run(assembler, early)) == "+0..2"
    assert story(assembler.skip(Span(25, 25))) == ""
    said = story(assembler.flush(Reason.STOP))
    assert said == "|stop 0..2 +6..9 +10..14 |gap 6..14 +20..24 |gap 20..24 +40..49 |end 40..49"
    assert not assembler.finished
    assert assembler.pending == ()
    assert assembler.flush(Reason.STOP) == []


def test_a_stop_of_what_came_early_only_cuts_where_the_chain_changes() -> None:
    assembler = Assembler([Span(0, 49)], PLENTY)
    run(assembler, [arrival(10, 19, {15: 1, 16: 1, 17: 1, 18: 1, 19: 1})])
    assert story(assembler.flush(Reason.STOP)) == "+10..14 |reorg 10..14 +15..19 |stop 15..19"


def test_what_a_stop_has_overtaken_is_left_to_others() -> None:
    assembler = Assembler([Span(0, 49)], PLENTY)
    run(assembler, [arrival(0, 2), arrival(10, 14)])
    assert story(assembler.flush(Reason.STOP)) == "|stop 0..2 +10..14 |stop 10..14"
    assert push(assembler, arrival(3, 9)) == []
    assert push(assembler, arrival(15, 49)) == []
    assert assembler.skip(Span(5, 5)) == []
    assert assembler.open_span is None
    assert not assembler.finished


@pytest.mark.parametrize("reason", ["size", "end"])
def test_only_age_and_stop_come_from_outside(reason: str) -> None:
    with pytest.raises(ValueError, match="from outside"):
        Assembler([Span(0, 9)], PLENTY).flush(reason)


@pytest.mark.parametrize("span", [(0, 4), (8, 12), (15, 16), (25, 31), (99, 99), (12, 21)])
def test_blocks_outside_the_partition_are_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"blocks {span[0]}..{span[1]} are not of this partition"):
        push(Assembler([Span(5, 11), Span(20, 30)], PLENTY), arrival(*span))


@pytest.mark.parametrize("span", [(0, 4), (2, 3), (3, 6), (10, 14), (9, 10), (12, 19), (9, 19)])
def test_blocks_delivered_twice_are_refused_and_change_nothing(span: tuple[int, int]) -> None:
    assembler = Assembler([Span(0, 19)], PLENTY)
    run(assembler, [arrival(0, 4), arrival(10, 14)])
    with pytest.raises(ValueError, match="delivered before"):
        push(assembler, arrival(*span))
    assert story(run(assembler, [arrival(15, 19), arrival(5, 9)])) == "+5..9 +10..14 +15..19 |end 0..19"


def test_a_finished_partition_takes_nothing_more() -> None:
    assembler = Assembler([Span(0, 1)], PLENTY)
    run(assembler, [arrival(0, 1)])
    with pytest.raises(ValueError, match="delivered before"):
        push(assembler, arrival(0, 1))


@pytest.mark.parametrize("held", [[], [0, 1], [0, 2, 3], [1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 2, 4]])
def test_an_extract_that_lacks_a_block_is_a_fault_and_never_empty(held: list[int]) -> None:
    assembler = Assembler([Span(0, 9)], PLENTY)
    links = BlockLinks.from_blocks((n, digest(n), digest(n - 1), 0) for n in held)
    with pytest.raises(DataFault, match=r"blocks 0\.\.3: the extract holds"):
        assembler.push(Span(0, 3), links, None, 1)
    assert assembler.pending == ()


def test_spans_ascend_and_limits_are_positive() -> None:
    for spans in ([Span(5, 9), Span(0, 3)], [Span(0, 5), Span(5, 9)]):
        with pytest.raises(ValueError, match="ascend and are disjoint"):
            Assembler(spans, PLENTY)
    with pytest.raises(ValueError, match="files of 0 blocks"):
        Limits(1, blocks=0)
    assert Assembler([], PLENTY).finished


# -- properties ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    spans: tuple[Span, ...]
    arrivals: tuple[Arrival, ...]
    limits: Limits
    finalized: int | None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A partition of one to three spans, cut into extracts, on a chain that changes its branch now and then."""
    spans, arrivals, at = [], [], draw(st.integers(0, 3))
    branches = dict(enumerate(draw(st.lists(st.sampled_from([0, 0, 0, 1]), max_size=60))))
    for _ in range(draw(st.integers(1, 3))):
        sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
        spans.append(Span(at, at + sum(sizes) - 1))
        for size in sizes:
            arrivals.append(arrival(at, at + size - 1, branches, draw(st.integers(0, 50))))
            at += size
        at += draw(st.integers(0, 3))
    limits = Limits(draw(st.integers(1, 200)), draw(st.integers(1, 12)))
    return Case(tuple(spans), tuple(arrivals), limits, draw(st.none() | st.integers(0, 60)))


def assembler_of(case: Case) -> Assembler:
    return Assembler(case.spans, case.limits, finalized=case.finalized)


@settings(max_examples=300)
@given(cases(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_instructions(case: Case, random: Random) -> None:
    in_order = run(assembler_of(case), case.arrivals)
    shuffled = list(case.arrivals)
    random.shuffle(shuffled)
    assembler = assembler_of(case)
    assert run(assembler, shuffled) == in_order
    assert assembler.finished
    assert assembler.pending == ()


def test_every_order_of_six_extracts_gives_the_same_instructions() -> None:
    six = [arrival(5 * i, 5 * i + 4, {n: n // 12 for n in range(30)}) for i in range(6)]
    told = {
        story(run(Assembler([Span(0, 29)], Limits(250, blocks=9), finalized=16), order)) for order in permutations(six)
    }
    assert len(told) == 1


@settings(max_examples=300)
@given(cases())
def test_files_hold_each_block_once_and_keep_every_rule(case: Case) -> None:
    written: list[tuple[int, bytes, bytes]] = []
    files: list[tuple[CutSegment, list[tuple[int, bytes, bytes]]]] = []
    for instruction in run(assembler_of(case), case.arrivals):
        if isinstance(instruction, WriteRows):
            links = instruction.payload.links
            rows = range(instruction.lo, instruction.hi)
            assert [int(links.numbers[i]) for i in rows] == list(range(instruction.first, instruction.last + 1))
            written += [(int(links.numbers[i]), links.hash(i), links.parent(i)) for i in rows]
        else:
            files.append((instruction, written))
            written = []
    assert written == []
    assert [number for _, blocks in files for number, _, _ in blocks] == [
        number for span in case.spans for number in range(span.start, span.end + 1)
    ]
    for cut, blocks in files:
        assert (cut.start, cut.prev_hash) == (blocks[0][0], blocks[0][2])
        assert (cut.end, cut.hash, cut.timestamp) == (blocks[-1][0], blocks[-1][1], 1000 + blocks[-1][0])
        assert len(blocks) <= case.limits.blocks
        assert case.finalized is None or not cut.start <= case.finalized < cut.end
        assert all(b[0] == a[0] + 1 and b[2] == a[1] for a, b in pairwise(blocks))
    assert [cut.reason == Reason.END for cut, _ in files] == [False] * (len(files) - 1) + [True]


@given(cases())
def test_every_cut_has_its_reason(case: Case) -> None:
    """No file ends early: behind each cut one of the rules would have been broken."""
    last_of_extracts = {one.span.end for one in case.arrivals}
    parents = {n: one.links.parent(i) for one in case.arrivals for i, n in enumerate(map(int, one.links.numbers))}
    assembler = assembler_of(case)
    for one in case.arrivals:
        for instruction in push(assembler, one):
            if isinstance(instruction, WriteRows):
                continue
            following = instruction.end + 1
            holds = {
                Reason.FINALITY: instruction.end == case.finalized,
                Reason.BLOCKS: following - instruction.start == case.limits.blocks,
                Reason.REORG: parents.get(following, instruction.hash) != instruction.hash,
                Reason.SIZE: instruction.end in last_of_extracts,
                Reason.GAP: following not in parents,
                Reason.END: assembler.finished,
            }
            assert holds[instruction.reason]
