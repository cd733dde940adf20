"""How many requests in flight are of use: Little's law, so that nobody has to tune them for 0, 50 or 200 ms."""

from __future__ import annotations

from collections.abc import Callable

FEWEST = 8  # so that the next answers are under way while one is worked on
ROOM = 2.0  # times what was needed: more in flight may bring more answers, and then it grows
MEASURE_SECS = 0.1
SAMPLES = 64  # answers of a measurement, if they come soon: their latencies vary
FORGET_SECS = 10.0  # a latency that was shorter than today's all the time is one of another route


class Needed:
    """The rate of answers times their mean latency, the least that was measured of late, with room to grow.

    While more in flight bring more answers, the number grows with them. Once the provider, or this process, can do no
    more, it stays: any more would only wait in a queue, and hold memory there. What was measured is forgotten from time
    to time; so that no queue of our own is taken for latency then, few are in flight until it has drained.
    """

    def __init__(self, at_first: int, clock: Callable[[], float]) -> None:
        self.count = max(FEWEST, at_first)
        self._clock = clock
        self._since = self._forgotten_at = clock()
        self._answers, self._latencies = 0, 0.0
        self._least = float("inf")
        self._draining = False

    def answered(self, latency_secs: float) -> None:
        """An answer came so long after its request."""
        self._answers += 1
        self._latencies += latency_secs
        now, mean = self._clock(), self._latencies / self._answers
        elapsed = now - self._since
        if elapsed < max(MEASURE_SECS, mean) or (self._answers < SAMPLES and elapsed < 2 * mean):
            return
        if not self._draining:
            self._least = min(self._least, mean)
            self.count = FEWEST + round(ROOM * self._least * self._answers / elapsed)
        self._draining = now - self._forgotten_at >= FORGET_SECS
        if self._draining:
            self.count = max(FEWEST, self.count // 4)
            self._least, self._forgotten_at = float("inf"), now
        self._since, self._answers, self._latencies = now, 0, 0.0
