"""Branches that go and come back: the canonical chain becomes the provider's, with what the product plans and names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.repair import MAX_DEPTH, repairs
from ampd_ray.chain.segments import Segment, missing, resolve
from tests.fakes.branches import NETWORK, Follower, Node, block_hash


def follower_at(head: int, start: int = 0) -> Follower:
    """It has followed a node up to ``head``, block by block after the first ten."""
    node = Node()
    node.grow(9)
    follower = Follower(node, start)
    follower.settle()
    while node.head < head:
        node.grow(1)
        follower.settle()
    return follower


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_branch_that_comes_back_at_equal_height_wins_again(depth: int, start: int) -> None:
    follower = follower_at(20, start=start)
    node = follower.node
    for branch in (None, 0, 1, 0):
        if branch is None:
            node.fork(depth, depth)
        else:
            node.switch(branch)
        fetched = follower.fetched
        follower.settle()
        assert follower.follows()
        assert follower.fetched - fetched <= 2 * depth + 2
    assert follower.settle() == 0


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_branch_that_comes_back_and_grows_wins_again(depth: int) -> None:
    follower = follower_at(20)
    node = follower.node
    node.fork(depth, depth + 2)
    follower.settle()
    assert follower.follows()
    node.switch(0)
    for _ in range(6):  # at first it is lower than the other branch
        node.grow(1)
        follower.settle()
    assert node.head == 26
    assert follower.follows()


def test_the_first_file_of_all_may_come_back() -> None:
    node = Node()
    node.grow(3)
    follower = Follower(node, start=2)
    follower.settle()
    node.fork(3, 3)
    follower.settle()
    assert follower.follows()
    node.switch(0)
    follower.settle()
    assert follower.follows()


def test_blocks_above_a_chain_that_comes_back_are_replaced_though_they_were_never_canonical() -> None:
    """Block 21 of the other branch was fetched as news when the provider went back."""
    follower = follower_at(20)
    node = follower.node
    node.fork(1, 2)
    follower.step()  # 21 of the new branch, which does not follow 20 of the old one
    node.switch(0)
    node.grow(1)
    follower.settle()
    assert follower.follows()


def test_a_bounded_range_ends_though_an_old_branch_is_higher() -> None:
    follower = follower_at(20)
    follower.node.fork(3, 8)
    follower.step()  # what is above 20, on its own
    follower.node.switch(0)
    fetched = follower.fetched
    assert follower.settle(20) == 1
    assert follower.fetched - fetched == 1  # block 20 is as it was
    assert follower.follows()
    assert follower.settle(20) == 0


def test_a_reorg_costs_no_more_than_the_files_it_touches() -> None:
    follower = follower_at(20)
    follower.node.fork(1, 2)
    fetched = follower.fetched
    follower.settle()
    assert follower.follows()
    assert follower.fetched - fetched == 2


def test_a_provider_that_contradicts_its_own_head_makes_no_files() -> None:
    follower = follower_at(20)
    files = len(follower.held)
    follower.node.claims = b"?" * 32
    for _ in range(10):
        assert follower.step()
    assert len(follower.held) == files


def registered(*rows: tuple[int, int, int, int]) -> list[Segment]:
    """Each ``start, end, branch before, branch``, every one newer than those before it."""
    return [
        Segment(i, BlockRange(NETWORK, start, end, block_hash(end, branch), block_hash(start - 1, before)), i)
        for i, (start, end, before, branch) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0, 9, 0, 0), (10, 10, 0, 0)], []),
        # the file before the fork does not end in its parent: the reorg may be deeper
        ([(0, 8, 0, 0), (9, 9, 0, 0), (10, 10, 0, 0), (11, 11, 1, 1)], [Span(10, 10), Span(11, 11)]),
        # a branch that came back: older, of the same start
        ([(0, 9, 0, 0), (10, 10, 0, 0), (10, 10, 0, 1), (11, 11, 0, 0)], [Span(10, 11)]),
        # it splits off within a file
        ([(0, 9, 0, 0), (10, 14, 0, 0), (12, 15, 1, 1)], [Span(10, 15)]),
        # at the very start
        ([(0, 9, 0, 1), (0, 9, 0, 0), (10, 10, 1, 1)], [Span(0, 10)]),
    ],
)
def test_what_is_asked_for_first(rows: list[tuple[int, int, int, int]], expected: list[Span]) -> None:
    chain = resolve(registered(*rows))
    assert chain is not None
    assert repairs(chain, Span(0, 20))[: len(expected)] == expected
    assert bool(repairs(chain, Span(0, 20))) == bool(expected)
    assert all(span.end <= 5 for span in repairs(chain, Span(0, 5)))


def test_on_suspicion_only_the_newest_blocks_are_asked_for_again() -> None:
    held = registered(*((n, n, 0, 0) for n in range(2_000)), (2_000, 2_000, 1, 1))
    chain = resolve(held)
    assert chain is not None
    found = repairs(chain, Span(0, 2_000))
    assert found[:2] == [Span(1_999, 1_999), Span(2_000, 2_000)]
    assert len(found) > 8
    assert max(map(len, found)) <= MAX_DEPTH


steps = st.one_of(
    st.builds(lambda n: lambda node: node.grow(n), st.integers(1, 4)),
    st.builds(lambda d, n: lambda node: node.fork(d, n), st.integers(1, 7), st.integers(1, 8)),
    st.builds(lambda b: lambda node: node.switch(b), st.integers(0, 9)),
)
stories = st.lists(st.tuples(steps, st.integers(0, 3)), max_size=14)


@settings(max_examples=600, deadline=None)
@given(
    stories,
    st.sampled_from([0, 0, 3]),
    st.sampled_from([1, 2, 1_000]),
    st.sampled_from([1, 3, 1_000]),
    st.booleans(),
)
def test_after_any_branches_the_canonical_chain_is_the_providers(
    story: list[tuple[Callable[[Node], None], int]], start: int, unit_blocks: int, file_blocks: int, grows: bool
) -> None:
    """However few passes there are between two changes, and though branches come back: once the head is as high."""
    node = Node()
    node.grow(start)
    follower = Follower(node, start=start, unit_blocks=unit_blocks, file_blocks=file_blocks)
    for change, passes in story:
        change(node)
        for _ in range(passes):
            follower.step()
    highest = max((s.range.end for s in follower.held), default=start)
    if node.head < highest:
        node.grow(highest - node.head)
    follower.settle()
    assert follower.follows()
    if grows:
        node.grow(1)
        assert follower.settle() <= 1
        assert follower.follows()
    assert missing(follower.held, Span(start, node.head)) == []
