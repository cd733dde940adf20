"""Who gets how much of what several want: jobs of one node, workers of one cluster."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.node.sharing import Ask, Needs, allowed, shares

ASKS = st.dictionaries(st.integers(0, 9), st.builds(Ask, st.integers(0, 50), st.integers(1, 100)), max_size=6)


def given_to(total: int, *asked: tuple[int, float]) -> list[int]:
    return list(shares({number: Ask(*ask) for number, ask in enumerate(asked)}, total).values())


def test_equal_jobs_have_equal_parts_and_one_alone_has_all() -> None:
    assert given_to(12, (100, 10), (100, 10), (100, 10)) == [4, 4, 4]
    assert given_to(12, (100, 1)) == [12]


def test_twice_the_priority_is_twice_the_extractors() -> None:
    assert given_to(12, (100, 20), (100, 10)) == [8, 4]
    assert given_to(16, (100, 10), (100, 5), (100, 1)) == [10, 5, 1]


def test_what_one_does_not_need_is_shared_by_the_others() -> None:
    assert given_to(13, (1, 100), (100, 20), (100, 10)) == [1, 8, 4]
    assert given_to(12, (2, 10), (3, 10)) == [2, 3]


def test_nobody_who_has_work_goes_without() -> None:
    assert given_to(4, (100, 100), *[(100, 1)] * 5) == [1] * 6
    assert given_to(4, (0, 1), (100, 1)) == [0, 4]


@given(ASKS, st.integers(0, 60))
def test_all_is_given_out_and_nobody_gets_more_than_it_asked_for(asked: dict[int, Ask], total: int) -> None:
    found = shares(asked, total)
    assert all(min(1, asked[key].wanted) <= number <= asked[key].wanted for key, number in found.items())
    wanted, at_least = sum(ask.wanted for ask in asked.values()), sum(min(1, ask.wanted) for ask in asked.values())
    assert sum(found.values()) == max(at_least, min(total, wanted))


@given(ASKS, st.integers(0, 60))
def test_whoever_lacks_some_has_no_less_than_another_by_its_weight(asked: dict[int, Ask], total: int) -> None:
    found = shares(asked, total)
    for one, other in permutations(asked, 2):
        if found[one] < asked[one].wanted and found[other] > 1:
            assert (found[one] + 1) / asked[one].weight >= found[other] / asked[other].weight - 1e-9


@pytest.mark.parametrize(
    ("ours", "other", "left"),
    [
        pytest.param(Needs(6, 12), Needs(0, 1), 5, id="a worker that starts gets its first CPU"),
        pytest.param(Needs(6, 12), Needs(2, 8), 4, id="who has more gives up"),
        pytest.param(Needs(2, 8), Needs(6, 12), None, id="who has less goes on asking"),
        pytest.param(Needs(4, 8), Needs(4, 8), None, id="both go on asking, so that the cluster grows"),
        pytest.param(Needs(6, 12), Needs(2, 2), None, id="nobody lacks any"),
        pytest.param(Needs(6, 6), Needs(1, 2), 5, id="who has more gives up, though it wants no more than it has"),
    ],
)
def test_workers_of_a_cluster_share_its_cpus(ours: Needs, other: Needs, left: int | None) -> None:
    assert allowed(ours, {"other": other}) == left


def test_three_workers_come_to_equal_parts() -> None:
    have = {"a": 9, "b": 0, "c": 0}
    for _ in range(20):
        told = {name: Needs(number, 20) for name, number in have.items()}
        left = {name: allowed(told[name], {k: v for k, v in told.items() if k != name}) for name in have}
        free = 9 - sum(number if left[name] is None else min(number, left[name] or 0) for name, number in have.items())
        have = {name: have[name] if limit is None else min(have[name], limit) for name, limit in left.items()}
        have[min(have, key=lambda name: have[name])] += free
    assert sorted(have.values()) == [3, 3, 3]
