"""Looking at something in the database now and again, until it is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ampd_ray.errors import AmpdError

T = TypeVar("T")
PATIENCE_SECS = 60.0


class Watch(Generic[T]):
    """``look`` every so often until ``over``; ``check`` raises if there is nothing to wait for any more.

    A database that does not answer is asked again, for ``PATIENCE_SECS``. Whoever does not go on leaves nothing behind.
    """

    def __init__(
        self,
        what: str,
        look: Callable[[], Awaitable[T]],
        over: Callable[[T], bool],
        *,
        check: Callable[[], None],
        every_secs: float,
    ):
        self._what = what
        self._look = look
        self._over = over
        self._check = check
        self._every_secs = every_secs
        self._started = time.monotonic()
        self._begun = self._ended = False

    async def next(self, timeout_secs: float | None = None) -> T | None:
        """What is seen next; None after the last. ``TimeoutError`` once it has not been over ``timeout_secs`` after
        the start, but never before the first look.
        """
        asked = time.monotonic()
        while not self._ended:
            if self._begun:
                if timeout_secs is not None and time.monotonic() - self._started > timeout_secs:
                    raise TimeoutError(f"{self._what} has not ended after {timeout_secs:g} s")
                await asyncio.sleep(self._every_secs)
            self._begun = True
            self._check()
            try:
                seen = await self._look()
            except AmpdError as error:
                if not error.retryable or time.monotonic() - asked > PATIENCE_SECS:
                    raise
            else:
                self._ended = self._over(seen)
                return seen
        return None
