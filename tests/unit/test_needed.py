"""How many requests in flight are of use, by the rate of answers and the shortest latency."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import chain, count, repeat
from typing import Any

import pytest

from ampd_ray.providers.needed import FEWEST, FORGET_SECS, MEASURE_SECS, ROOM, Needed

RATE = 600.0  # answers a second that the provider, or this process, can do at most


class Provider:
    """Keeps as many requests in flight as ``needed`` says; each is answered after ``latency``, and its turn."""

    def __init__(self, at_first: int = 8, rate: float = RATE) -> None:
        self.now = 1000.0
        self.needed = Needed(at_first, lambda: self.now)
        self.answers = 0
        self._rate = rate
        self._in_flight: list[tuple[float, int, float]] = []  # when it is answered, and when it was asked
        self._free_at = 0.0
        self._ids = count()

    def run(self, secs: float, latency: float | Iterator[float]) -> int:
        """Go on for so long; returns what is needed then."""
        latencies = repeat(latency) if isinstance(latency, float) else latency
        until = self.now + secs
        self._ask(latencies)
        while self._in_flight[0][0] < until:
            self._answer()
            self._ask(latencies)
        self.now = until
        return self.needed.count

    def rest(self, secs: float) -> None:
        """All that was asked is answered; then nothing for so long."""
        while self._in_flight:
            self._answer()
        self.now += secs

    def _answer(self) -> None:
        self.now, _, asked_at = heapq.heappop(self._in_flight)
        self.needed.answered(self.now - asked_at)
        assert self.needed.count >= FEWEST
        self.answers += 1

    def _ask(self, latencies: Iterator[float]) -> None:
        while len(self._in_flight) < self.needed.count:
            self._free_at = max(self._free_at, self.now) + 1 / self._rate
            answered_at = max(self.now + next(latencies), self._free_at)
            heapq.heappush(self._in_flight, (answered_at, next(self._ids), self.now))


def by_little(latency: float) -> Any:
    """What is needed for ``RATE``; three times the fewest where the requests have no latency but that of their turn."""
    return pytest.approx(max(FEWEST + ROOM * RATE * latency, 2 * FEWEST), rel=0.05, abs=FEWEST)


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.2])
def test_it_is_the_rate_times_the_latency_with_room_to_grow_and_stays_so(latency: float) -> None:
    """Though all that are more than the provider can do wait there, and seem to take that long."""
    provider = Provider()
    assert [provider.run(FORGET_SECS, latency) for _ in range(12)] == [by_little(latency)] * 12


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.2])
def test_the_provider_has_always_enough_to_do(latency: float) -> None:
    provider = Provider()
    provider.run(5, latency)
    before = provider.answers
    provider.run(60, latency)
    assert provider.answers - before > 0.98 * 60 * RATE


def test_the_start_is_what_it_is_told_and_never_below_the_fewest() -> None:
    assert Needed(8, lambda: 0.0).count == 8
    assert Needed(1, lambda: 0.0).count == FEWEST


def test_while_more_bring_more_it_grows() -> None:
    provider = Provider(rate=1e9)
    provider.run(1, 0.2)
    before = provider.needed.count
    assert provider.run(4, 0.2) > 10 * before


@pytest.mark.parametrize("idle", [0.0, 3600.0])
@pytest.mark.parametrize("latencies", [(0.2, 0.0), (0.2, 0.05), (0.05, 0.0), (0.0, 0.2), (0.05, 0.2)])
def test_it_follows_the_latency_down_and_up_whether_or_not_it_was_idle(
    latencies: tuple[float, float], idle: float
) -> None:
    before, after = latencies
    provider = Provider()
    provider.run(30, before)
    if idle:
        provider.rest(idle)
    assert provider.run(3 * FORGET_SECS if after > before else 12 * FORGET_SECS, after) == by_little(after)


def test_after_an_idle_time_it_is_soon_what_it_was() -> None:
    provider = Provider()
    provider.run(30, 0.2)
    provider.rest(3600)
    assert provider.run(5, 0.2) == by_little(0.2)


def test_one_slow_answer_changes_nothing() -> None:
    for slow_one in (0, 3, 1000):  # the first, one of the first, one of many
        provider = Provider()
        provider.run(5, chain(repeat(0.05, slow_one), [30.0], repeat(0.05)))
        assert provider.needed.count == by_little(0.05)
        assert provider.run(30, 0.05) == by_little(0.05)  # it comes meanwhile


def test_between_two_measurements_it_stays() -> None:
    now = 0.0
    needed = Needed(8, lambda: now)
    counts = []
    for step in range(12):
        now = step * MEASURE_SECS / 8
        needed.answered(0.0)
        counts.append(needed.count)
    assert counts == [8] * 8 + [FEWEST] * 4
