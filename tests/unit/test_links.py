"""Hash links of blocks, in columns."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.chain.links import BlockLinks


def digest(number: int, branch: int = 0) -> bytes:
    return (number + 1).to_bytes(16, "big") + branch.to_bytes(16, "big")


def chain(start: int, branches: list[int]) -> BlockLinks:
    """One block for each branch; a block's parent is on its own branch, so links break where the branch changes."""
    return BlockLinks.from_blocks(
        (n, digest(n, branch), digest(n - 1, branch), 1000 + n) for n, branch in enumerate(branches, start)
    )


def test_every_block_is_found_again() -> None:
    links = chain(7, [0, 0, 1])
    assert len(links) == 3
    assert (links.first, links.last) == (7, 9)
    assert [links.hash(i) for i in range(3)] == [digest(7), digest(8), digest(9, 1)]
    assert [links.parent(i) for i in range(3)] == [digest(6), digest(7), digest(8, 1)]
    assert [links.timestamp(i) for i in range(3)] == [1007, 1008, 1009]


@given(st.lists(st.integers(0, 2), max_size=30))
def test_breaks_are_where_the_parent_is_not_the_block_before(branches: list[int]) -> None:
    breaks = [i for i in range(1, len(branches)) if branches[i] != branches[i - 1]]
    assert chain(5, branches).breaks() == breaks


@given(st.lists(st.integers(0, 1), max_size=12), st.integers(0, 12))
def test_slices_joined_again_are_the_whole(branches: list[int], cut: int) -> None:
    links = chain(0, branches)
    whole = BlockLinks.concat([links.slice(0, cut), links.slice(cut, len(links))])
    assert (whole.hashes, whole.parents) == (links.hashes, links.parents)
    assert np.array_equal(whole.numbers, links.numbers)
    assert np.array_equal(whole.timestamps, links.timestamps)
    assert len(BlockLinks.concat([])) == 0


def test_links_travel_between_processes() -> None:
    again = pickle.loads(pickle.dumps(chain(0, [0, 1])))
    assert again.hashes == chain(0, [0, 1]).hashes
    assert again.breaks() == [1]


@pytest.mark.parametrize("numbers", [(5, 5), (5, 4), (1, 2, 2)])
def test_numbers_must_increase(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="comes after block"):
        BlockLinks.from_blocks((n, digest(n), digest(n - 1), 0) for n in numbers)


def test_columns_must_be_of_one_length() -> None:
    with pytest.raises(ValueError, match="31 bytes of hashes"):
        BlockLinks.from_blocks([(1, b"\0" * 31, b"\0" * 32, 0)])
    one = np.zeros(1, np.uint64)
    with pytest.raises(ValueError, match="0 timestamps"):
        BlockLinks(one, b"\0" * 32, b"\0" * 32, one[:0])
