"""How fast to ask: one limiter that every request of a source passes (``spec/data.md`` 2.1, 2.2).

Three bounds hold at once: the token bucket of ``rate_limit_per_minute``, the requests in flight, and the pause that
a provider asked for. The requests in flight adapt below ``concurrent_request_limit``: they grow while answers come and
are needed (:mod:`~ampd_ray.providers.needed`), and halve when the provider complains; at one in flight, complaints
space the requests out instead.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ampd_ray.providers.needed import Needed

START_IN_FLIGHT = 8
MAX_IN_FLIGHT = 256  # enough for 1,000 requests/s at 250 ms
MAX_PACE = 1.0  # seconds between two requests
MAX_PAUSE = 60.0  # seconds; who asks for more is asked once a minute, so that the reason for waiting stays visible


@dataclass(frozen=True, slots=True)
class Timing:
    """Time and chance, so that tests can hand in their own. ``random`` is uniform in [0, 1)."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    random: Callable[[], float] = random.random
    # Seconds before each further try of a block that failed its checks, and of one read across a reorg. The
    # specification proposes 1, 10 and 60 s; a job should rather say within seconds what is wrong with its provider.
    fault_delays: tuple[float, ...] = (0.5, 2.0, 5.0)
    reorg_delays: tuple[float, ...] = (0.1, 0.5, 2.0)
    give_up_secs: float = 120.0  # of trying one call


class Limiter:
    """Admits requests in the order in which they ask."""

    def __init__(self, per_minute: int | None, in_flight: int, timing: Timing) -> None:
        self._timing = timing
        self._per_minute, self._in_flight_limit = per_minute, in_flight
        self._cap = max(1, min(in_flight, MAX_IN_FLIGHT))
        self._allowed = float(min(START_IN_FLIGHT, self._cap))
        self._needed = Needed(START_IN_FLIGHT, timing.clock)
        self._in_flight = self._sleeping = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._rate = per_minute / 60 if per_minute else None  # tokens per second
        self._burst = float(per_minute or 0)
        self._tokens, self._filled_at = self._burst, timing.clock()
        self._growing = True  # by one per answer, until the first complaint
        self._pace, self._next_at = 0.0, 0.0
        self._paused_until = 0.0
        self._slowed_at = float("-inf")

    def use(self, share: float) -> None:
        """From now on keep to this part of what is allowed; others of us, in other processes, have the rest."""
        self._cap = max(1, min(int(self._in_flight_limit * share), MAX_IN_FLIGHT))
        self._allowed = min(self._allowed, self._cap)
        if self._per_minute:
            self._refill()
            self._rate, self._burst = self._per_minute * share / 60, max(1.0, self._per_minute * share)
            self._tokens = min(self._tokens, self._burst)

    @property
    def held(self) -> bool:
        """True while requests wait because of the provider: its limits, or complaints."""
        if self._sleeping:
            return True
        complained = not self._growing and self._allowed < self._needed.count
        at_limit = self._cap == self._in_flight < MAX_IN_FLIGHT
        return (complained or at_limit) and any(not turn.done() for turn in self._waiting)

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return min(int(self._allowed), self._needed.count)

    async def acquire(self) -> float:
        """Wait for a slot; returns the moment of admission. To be followed by :meth:`release`."""
        if self._in_flight >= self.allowed or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.release()
                raise
        else:
            self._in_flight += 1
        try:
            while (delay := self._delay()) > 0:
                await self._sleep(delay)
            if (delay := self._take_token()) > 0:
                await self._sleep(delay)
        except BaseException:
            self.release()
            raise
        return self._timing.clock()

    def release(self) -> None:
        """Give the slot back; the next in line gets it."""
        self._in_flight -= 1
        self._admit()

    def succeeded(self, admitted_at: float) -> None:
        """The answer to a request admitted then came without complaint."""
        self._needed.answered(self._timing.clock() - admitted_at)
        if self._pace:
            self._pace = self._pace * 0.85 if self._pace > 0.002 else 0.0
        else:
            self._allowed = min(self._cap, self._allowed + (1 if self._growing else 1 / self._allowed))
            self._admit()

    def slow_down(self, admitted_at: float, retry_after: float | None = None) -> None:
        """The provider complained about a request admitted then; one wave of complaints counts once."""
        now = self._timing.clock()
        if retry_after:
            self._paused_until = max(self._paused_until, now + min(retry_after, MAX_PAUSE))
        if admitted_at < self._slowed_at:
            return
        self._slowed_at = now
        self._growing = False
        if self.allowed > 1:
            self._allowed = max(1.0, self.allowed / 2)
        else:
            self._pace = min(MAX_PACE, max(0.02, self._pace * 2))

    async def _sleep(self, secs: float) -> None:
        self._sleeping += 1
        try:
            await self._timing.sleep(secs)
        finally:
            self._sleeping -= 1

    def _admit(self) -> None:
        while self._waiting and self._in_flight < self.allowed:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)

    def _delay(self) -> float:
        """Seconds until the pause and the pace let a request through; 0 books it."""
        now = self._timing.clock()
        ready = max(self._paused_until, self._next_at)
        if ready > now:
            return ready - now
        self._next_at = now + self._pace
        return 0.0

    def _take_token(self) -> float:
        """Take a token, on credit if there is none: returns the seconds until it is there."""
        if self._rate is None:
            return 0.0
        self._refill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def _refill(self) -> None:
        now = self._timing.clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * (self._rate or 0.0))
        self._filled_at = now
