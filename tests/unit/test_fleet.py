"""Which coordinators a worker for every Ray node starts, and when again."""

from __future__ import annotations

import pytest

from ampd_ray.node.ending import Ending
from ampd_ray.node.fleet import PAUSE_MAX_SECS, PAUSE_SECS, SOON_SECS, Fleet, Start
from ampd_ray.node.places import RayNode


def stable(ray_node: str, name: str) -> RayNode:
    return RayNode(ray_node, name, 8.0, stable=True)


A, B = stable("a", "10.0.0.1"), stable("b", "10.0.0.2")
SPOT = RayNode("s", "10.0.0.9", 8.0, stable=False)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet("amp-")


def test_each_stable_ray_node_gets_one_coordinator_under_its_name(fleet: Fleet) -> None:
    assert fleet.seen([A, SPOT, B], 0.0) == [Start("amp-10.0.0.1", "a"), Start("amp-10.0.0.2", "b")]
    assert fleet.seen([A, SPOT, B], 1.0) == []
    assert fleet.running == ["amp-10.0.0.1", "amp-10.0.0.2"]


def test_what_joins_later_is_followed_and_what_left_is_forgotten(fleet: Fleet) -> None:
    fleet.seen([A], 0.0)
    assert fleet.seen([A, B], 1.0) == [Start("amp-10.0.0.2", "b")]
    fleet.ended("amp-10.0.0.2", 1, 2.0)
    assert fleet.seen([A], 100.0) == []
    assert fleet.running == ["amp-10.0.0.1"]
    assert fleet.seen([A, B], 101.0) == [Start("amp-10.0.0.2", "b")]


def test_a_coordinator_whose_ray_node_is_not_seen_runs_until_its_end_is_heard_of(fleet: Fleet) -> None:
    fleet.seen([A], 0.0)
    assert fleet.seen([], 1.0) == []
    assert fleet.running == ["amp-10.0.0.1"]
    fleet.ended("amp-10.0.0.1", 1, 2.0)
    assert fleet.running == []


def test_a_pause_doubles_with_each_end_that_follows_soon_and_starts_over_after_a_good_run(fleet: Fleet) -> None:
    now, pause = 0.0, PAUSE_SECS
    for _ in range(8):
        assert fleet.seen([A], now)
        fleet.ended("amp-10.0.0.1", 1, now)
        assert not fleet.seen([A], now + pause - 0.01)
        now += pause
        pause = min(PAUSE_MAX_SECS, 2 * pause)
    assert pause == PAUSE_MAX_SECS
    assert fleet.seen([A], now)
    fleet.ended("amp-10.0.0.1", 1, now + SOON_SECS)
    assert not fleet.seen([A], now + SOON_SECS + PAUSE_SECS - 0.01)
    assert fleet.seen([A], now + SOON_SECS + PAUSE_SECS)


def test_a_machine_that_comes_back_is_the_same_node_at_once(fleet: Fleet) -> None:
    fleet.seen([A], 0.0)
    again = stable("a2", A.name)
    assert fleet.seen([again], 1.0) == []  # nobody has heard of the end of the first one yet
    fleet.ended("amp-10.0.0.1", 1, 2.0)
    assert fleet.seen([again], 2.0) == [Start("amp-10.0.0.1", "a2")]


def test_one_that_gave_itself_up_is_not_started_on_that_ray_node_again(fleet: Fleet) -> None:
    fleet.seen([A], 0.0)
    fleet.ended("amp-10.0.0.1", 0, 1.0)
    assert fleet.seen([A], 1000.0) == []
    assert fleet.seen([stable("a2", A.name)], 1001.0) == [Start("amp-10.0.0.1", "a2")]


def test_of_ray_nodes_with_one_name_one_gets_a_coordinator(fleet: Fleet) -> None:
    twins = [stable("b", "localhost"), stable("a", "localhost")]
    assert fleet.seen(twins, 0.0) == [Start("amp-localhost", "b")]
    assert fleet.seen(twins[::-1], 1.0) == []
    assert fleet.clashes([*twins, A]) == ["amp-localhost"]


def test_names_become_node_ids_that_the_database_takes(fleet: Fleet) -> None:
    assert fleet.node_id(stable("a", "fd00::1")) == "amp-fd00--1"
    assert fleet.node_id(stable("a", "rack 7/böx")) == "amp-rack-7-b-x"
    assert len(fleet.node_id(stable("a", "x" * 300))) == 128


def test_a_drain_ends_when_all_have_ended_and_starts_nothing(fleet: Fleet) -> None:
    fleet.seen([A, B], 0.0)
    fleet.ended("amp-10.0.0.2", 1, 1.0)
    assert not fleet.over
    fleet.drain()
    assert fleet.seen([A, B], 100.0) == []
    assert (fleet.over, fleet.running) == (False, ["amp-10.0.0.1"])
    fleet.ended("amp-10.0.0.1", 0, 101.0)
    assert (fleet.over, fleet.exit_code) == (True, 0)


def test_a_drain_that_was_cut_short_anywhere_ends_with_1(fleet: Fleet) -> None:
    fleet.seen([A, B], 0.0)
    fleet.drain()
    fleet.ended("amp-10.0.0.1", 3, 1.0)
    fleet.ended("amp-10.0.0.2", 0, 2.0)
    assert (fleet.over, fleet.exit_code) == (True, 1)


def test_whoever_is_asked_again_has_less_time() -> None:
    ending = Ending(30.0)
    assert ending.at_last > 1e9
    ending.ask(100.0)
    assert (ending.at_last, str(ending)) == (135.0, "within 35 s of being asked")
    ending.ask(110.0)
    assert (ending.at_last, str(ending)) == (115.0, "within 5 s of being asked again")
    ending.ask(120.0)
    assert ending.at_last == 115.0
