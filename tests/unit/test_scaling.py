"""How many extractors a node wants: more only while those that there are have no time, and a provider has some."""

from __future__ import annotations

import math
import random

import pytest

from ampd_ray.materialize.types import Load
from ampd_ray.node.scaling import Bounds, Scaling, needed

MANY = 10_000  # tasks
BUSY = Load(busy=1.0)
FULL = Load(busy=0.1, full=True)
HELD = Load(busy=0.1, room=False)
BUSY_AND_HELD = Load(busy=1.0, room=False)
FRESH = Load()


def scaling(fewest: int = 1, most: int = 64, idle_secs: float = 60.0) -> Scaling:
    return Scaling(Bounds(fewest, most, idle_secs))


@pytest.mark.parametrize(
    ("loads", "tasks", "wanted"),
    [
        pytest.param([BUSY], MANY, 2, id="no time left"),
        pytest.param([BUSY] * 4, MANY, 8, id="none of them has time left"),
        pytest.param([FULL] * 2, MANY, 4, id="far away: as many requests under way as there may be"),
        pytest.param([BUSY_AND_HELD] * 2, MANY, 2, id="no time left, but the provider takes no more"),
        pytest.param([BUSY, BUSY_AND_HELD, BUSY_AND_HELD], MANY, 3, id="most providers take no more"),
        pytest.param([HELD] * 8, MANY, 2, id="the provider keeps eight busy for a tenth of their time"),
        pytest.param([BUSY, BUSY, FRESH, FRESH], MANY, 3, id="nobody knows yet what the new ones do"),
        pytest.param([BUSY] * 4, 6, 2, id="the last tasks"),
        pytest.param([BUSY] * 4, 1, 1, id="the last task"),
        pytest.param([FRESH] * 4, MANY, 1, id="work, and nothing done about it: a writer, or a lease"),
        pytest.param([BUSY] * 4, 0, 0, id="no work"),
        pytest.param([], MANY, 1, id="none is there yet"),
    ],
)
def test_what_the_work_of_now_keeps_busy(loads: list[Load], tasks: int, wanted: int) -> None:
    assert needed(loads, tasks) == wanted


def test_one_becomes_many_while_that_helps_and_no_more_are_asked_for_than_are_there() -> None:
    node = scaling(most=10)
    assert [node.turn(0, [BUSY], MANY) for _ in range(3)] == [2, 2, 2], "until the second has shown that it helps"
    assert [node.turn(1, [BUSY] * n, MANY) for n in (2, 4, 8, 10)] == [4, 8, 10, 10]


def test_what_is_not_needed_is_given_back_only_after_a_while() -> None:
    node = scaling(fewest=1, idle_secs=60.0)
    node.turn(0, [BUSY] * 4, MANY)
    assert [node.turn(now, [BUSY] * 8, 0) for now in (1, 30, 60, 61)] == [8, 8, 8, 1]


def test_a_worker_of_its_own_remembers_no_more_the_longer_it_runs() -> None:
    rng, own = random.Random(1), scaling(fewest=3, most=3, idle_secs=math.inf)
    for turn in range(1_000):
        own.turn(turn, [Load(busy=rng.random()) for _ in range(3)], rng.choice([0, 5, MANY]))
    assert len(own._needs) <= 2 * 3


@pytest.mark.parametrize("seed", range(5))
def test_the_most_that_was_needed_of_late_is_wanted(seed: int) -> None:
    rng, node, needs, now = random.Random(seed), scaling(fewest=0, idle_secs=20.0), list[tuple[float, int]](), 0.0
    for _ in range(300):
        now += rng.choice([2.0, 2.1, 9.0])
        loads = [rng.choice([BUSY, HELD, FRESH]) for _ in range(rng.randrange(9))]
        needs.append((now, needed(loads, MANY)))
        assert node.turn(now, loads, MANY) == max(need for at, need in needs if now - at <= 20.0)


def test_a_pause_between_two_jobs_gives_nothing_back() -> None:
    node = scaling(idle_secs=60.0)
    node.turn(0, [BUSY] * 4, MANY)
    assert node.turn(59, [FRESH] * 8, 0) == 8
    assert node.turn(61, [BUSY] * 8, MANY) == 16


def test_a_worker_may_keep_none_and_a_worker_of_its_own_keeps_all() -> None:
    assert scaling(fewest=0).turn(0, [FRESH], 0) == 0
    own = scaling(fewest=3, most=3)
    assert own.wanted == 3
    assert [own.turn(0, [BUSY] * 3, MANY), own.turn(999, [FRESH] * 3, 0)] == [3, 3]


def test_others_of_the_cluster_limit_but_the_first_needs_nothing_of_it() -> None:
    node = scaling()
    assert node.turn(0, [BUSY] * 8, MANY, allowed=3) == 4
    assert node.needed == 16, "which is what the others are told"
    assert node.turn(0, [BUSY] * 8, MANY, allowed=0) == 1


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_the_bounds_hold_and_without_work_it_ends_at_the_fewest(seed: int) -> None:
    rng = random.Random(seed)
    bounds = Bounds(rng.randint(0, 3), rng.randint(3, 40), rng.uniform(1, 30))
    node, now, there = Scaling(bounds), 0.0, 1
    for _ in range(100):
        now += 5
        loads = [Load(rng.random(), rng.random() < 0.2, rng.random() < 0.8) for _ in range(there)]
        there = node.turn(now, loads, rng.choice([0, 1, 50, MANY]))
        assert bounds.fewest <= there <= bounds.most
    node.turn(now + bounds.idle_secs + 5, [FRESH] * there, 0)
    assert node.turn(now + 2 * bounds.idle_secs + 10, [FRESH] * there, 0) == bounds.fewest
