"""What a look at Ray's list of nodes that drain says that the last one did not."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ampd_ray.actors import draining
from ampd_ray.actors.draining import Departure, departures, news

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


async def test_a_notice_is_heard_though_all_threads_of_the_loop_wait_for_a_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, hanging = threading.Event(), ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(hanging)
    waiting = hanging.submit(answers.wait)
    monkeypatch.setattr(draining, "draining", lambda: {"a": 0})
    try:
        async with asyncio.timeout(20):
            assert await anext(departures()) == Departure("a", None)
        assert waiting.running()
    finally:
        answers.set()
