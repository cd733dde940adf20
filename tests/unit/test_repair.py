"""Branches that go and come back: the canonical chain becomes the provider's, with what the product plans and names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.chain.ranges import Span
from ampd_ray.chain.segments import missing
from tests.fakes.branches import Follower, Node


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
    gaps = missing(follower.held, Span(start, node.head))
    assert gaps == [] or follower.follows()
