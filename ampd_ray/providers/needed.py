"""How many requests in flight are of use: Little's law, so that nobody has to tune them for 0, 50 or 200 ms."""

from __future__ import annotations

from collections.abc import Callable

FEWEST = 4  # so that the next answer is under way while one is worked on
ROOM = 2.0  # times what was needed: more in flight may bring more answers, and then it grows
MEASURE_SECS = 0.1
FORGET_SECS = 10.0  # a latency that was shorter than today's all the time is one of another route
FORGET_LATENCIES = 20  # if that is longer
PROBE = 0.75  # of what was needed, for a moment then: so the next shortest latency has no queue of our making in it


class Needed:
    """The rate of answers times the shortest latency, with room to grow.

    While more in flight bring more answers, the number grows with them. Once the provider, or this process, can do no
    more, it stays: any more would only wait in a queue, and hold memory there.
    """

    def __init__(self, at_first: int, clock: Callable[[], float]) -> None:
        self.count = max(FEWEST, at_first)
        self._clock = clock
        self._since = self._forgotten_at = clock()
        self._answers = 0
        self._shortest = self._shortest_before = float("inf")

    def answered(self, latency_secs: float) -> None:
        """An answer came so long after its request."""
        self._answers += 1
        self._shortest = min(self._shortest, latency_secs)
        shortest = min(self._shortest, self._shortest_before)
        now = self._clock()
        elapsed = now - self._since
        if elapsed >= max(MEASURE_SECS, 2 * shortest):
            self.count = FEWEST + round(ROOM * shortest * self._answers / elapsed)
            self._since, self._answers = now, 0
        if now - self._forgotten_at >= max(FORGET_SECS, FORGET_LATENCIES * shortest):
            self._shortest, self._shortest_before = float("inf"), self._shortest
            self._forgotten_at = self._since = now
            self._answers = 0
            self.count = max(FEWEST, round(PROBE * (self.count - FEWEST) / ROOM))
