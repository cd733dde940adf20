"""Choice of worker (spec/metadata-db.md 7.1)."""

from __future__ import annotations

import random

import pytest

from ampd_ray.controller.scheduler import Candidate, choose_worker
from ampd_ray.errors import InvalidName, SchedulerError, WorkerNotAvailable


def worker(node_id: str, load: int = 0, *, alive: bool = True, draining: bool = False) -> Candidate:
    return Candidate(node_id, alive, load, draining)


def chosen(candidates: list[Candidate], selector: str | None) -> set[str]:
    return {choose_worker(candidates, selector, random.Random(seed)) for seed in range(40)}


def test_the_least_loaded_worker_is_chosen() -> None:
    assert chosen([worker("a", 3), worker("b", 1), worker("c", 2)], None) == {"b"}


def test_ties_are_broken_at_random() -> None:
    assert chosen([worker("a", 1), worker("b", 1), worker("c", 2)], None) == {"a", "b"}


def test_dead_and_draining_workers_get_nothing() -> None:
    assert chosen([worker("a", alive=False), worker("b", draining=True), worker("c", 9)], None) == {"c"}


def test_an_exact_id_wins_over_load() -> None:
    assert chosen([worker("a", 9), worker("b")], "a") == {"a"}


@pytest.mark.parametrize("state", [{"alive": False}, {"draining": True}])
def test_an_exact_id_must_be_alive(state: dict[str, bool]) -> None:
    with pytest.raises(WorkerNotAvailable, match=r"'a' is not alive.*alive: b.*ampd worker"):
        choose_worker([worker("a", **state), worker("b")], "a", random.Random(0))


def test_a_prefix_chooses_among_those_that_match() -> None:
    assert chosen([worker("ray-1", 2), worker("ray-2", 1), worker("amp-1")], "ray-*") == {"ray-2"}


@pytest.mark.parametrize("candidates", [[], [worker("a", alive=False)], [worker("a", draining=True)]])
@pytest.mark.parametrize("selector", [None, "a*"])
def test_nobody_to_choose_says_how_to_start_a_worker(candidates: list[Candidate], selector: str | None) -> None:
    with pytest.raises(SchedulerError, match="ampd worker --config <file> --node-id <id>"):
        choose_worker(candidates, selector, random.Random(0))


@pytest.mark.parametrize("selector", ["*", "a*b", "a**", "1a", "", "a b"])
def test_a_malformed_selector_is_refused(selector: str) -> None:
    with pytest.raises(InvalidName):
        choose_worker([worker("a")], selector, random.Random(0))
