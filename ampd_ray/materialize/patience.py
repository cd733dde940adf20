"""How a job bears with errors: each step has its code, and what time cures is waited out, never in silence."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TypeVar

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import AmpdError, DatabaseUnavailable, Handling, JobFailed, StoreUnavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")

PAUSES_SECS = (0.1, 0.2, 0.5, 1.0)  # the last of them again and again
COMPLAIN_EVERY_SECS = 60.0
MAX_PAUSE_SECS = 30.0


@asynccontextmanager
async def step(code: str) -> AsyncIterator[None]:
    """Name the step in which an error happened (``spec/metadata-db.md`` 5.7)."""
    try:
        yield
    except JobFailed:
        raise
    except AmpdError as error:
        if error.handling is Handling.FENCED:
            raise
        facts = {**error.details, "cause": error.code, "error_class": str(error.handling)}
        raise JobFailed(str(error), step=code, retryable=error.retryable, **facts) from error


async def patiently(call: Callable[[], Awaitable[T]], within_secs: float = math.inf) -> T:
    """Wait for a database or an object store that is away; the job's row stays RUNNING meanwhile.

    ``call`` must bear to be repeated. Raises what it raises for what still fails after ``within_secs``.
    """
    complaints = Complaints("the metadata database or the object store")
    started = time.monotonic()
    pauses = chain(PAUSES_SECS, repeat(PAUSES_SECS[-1]))
    while True:
        try:
            result = await call()
        except (DatabaseUnavailable, StoreUnavailable) as error:
            if time.monotonic() - started >= within_secs:
                raise
            complaints.add(error)
        else:
            complaints.settle()
            return result
        await asyncio.sleep(next(pauses))


@dataclass
class _Cause:
    since: float
    logged_at: float
    count: int = 0


class Complaints:
    """Log lines about something that goes wrong for as long as it does: the first at once, then one a minute a cause.

    ``clock`` counts seconds; ``counts`` has how often each cause came since all was well.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic):
        self._what = what
        self._clock = clock
        self._causes: dict[str, _Cause] = {}

    @property
    def counts(self) -> dict[str, int]:
        """How often each cause came since all was well."""
        return {cause: seen.count for cause, seen in self._causes.items()}

    def add(self, error: AmpdError) -> None:
        """It failed again."""
        now = self._clock()
        seen = self._causes.setdefault(error.code, _Cause(now, float("-inf")))
        seen.count += 1
        if now - seen.logged_at >= COMPLAIN_EVERY_SECS:
            seen.logged_at = now
            facts = {"cause": error.code, "error": error, "count": seen.count, "for_secs": round(now - seen.since, 1)}
            logger.warning("%s: no progress; trying on", self._what, extra=facts)

    def settle(self) -> None:
        """All is well again."""
        if self._causes:
            since = min(seen.since for seen in self._causes.values())
            facts = {"after_secs": round(self._clock() - since, 1), "failures": sum(self.counts.values())}
            logger.info("%s: going on", self._what, extra=facts)
            self._causes.clear()


class Standstill:
    """Passes that change nothing: longer and longer pauses after them, and a warning a minute.

    ``shortest_secs`` is the first pause; ``clock`` counts seconds.
    """

    def __init__(self, shortest_secs: float, clock: Callable[[], float] = time.monotonic):
        self._shortest = shortest_secs
        self._clock = clock
        self._passes = 0
        self._since = self._warned_at = 0.0

    def pause(self, first: Span) -> float:
        """Another pass, over ``first`` and perhaps more, has changed nothing: how many seconds to wait now."""
        now = self._clock()
        if self._passes == 0:
            self._since = self._warned_at = now
        self._passes += 1
        if now - self._warned_at >= COMPLAIN_EVERY_SECS:
            self._warned_at = now
            facts = {"first": first, "passes": self._passes, "for_secs": round(now - self._since, 1)}
            logger.warning("blocks are asked for again and again, and nothing changes; trying on", extra=facts)
        return min(self._shortest * 2.0 ** min(self._passes - 1, 30), max(MAX_PAUSE_SECS, self._shortest))

    def settle(self) -> None:
        """Something has changed."""
        self._passes = 0
