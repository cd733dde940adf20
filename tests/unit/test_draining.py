"""What a look at Ray's list of nodes that drain says that the last one did not."""

from __future__ import annotations

from ampd_ray.actors.draining import Departure, news

NOW = 1_000.0


def test_a_node_is_news_when_it_starts_to_drain_and_when_its_time_gets_shorter() -> None:
    assert news({}, {"a": 1_030_000, "b": 0}, NOW) == [Departure("a", 30.0), Departure("b", None)]
    assert news({"a": 1_030_000, "b": 0}, {"a": 1_020_000, "b": 1_010_000}, NOW) == [
        Departure("a", 20.0),
        Departure("b", 10.0),
    ]


def test_what_is_known_gone_or_granted_more_time_is_no_news() -> None:
    assert news({"a": 1_030_000, "b": 0, "c": 0}, {"a": 1_030_000, "b": 0}, NOW) == []
    assert news({"a": 1_030_000, "b": 1_030_000}, {"a": 1_090_000, "b": 0}, NOW) == []


def test_a_time_that_has_passed_is_now() -> None:
    assert news({}, {"a": 990_000}, NOW) == [Departure("a", 0.0)]
