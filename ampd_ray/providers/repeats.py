"""Warnings that may come in thousands, in a bounded number of lines."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

QUIET_SECS = 5.0


class Repeats:
    """At most one line per kind in ``QUIET_SECS``; each line counts those that were left out since the last."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, kind: str, message: str, **facts: Any) -> None:
        """Log ``message`` now, or count it."""
        now = self._clock()
        if now - self._logged_at.get(kind, float("-inf")) < QUIET_SECS:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._logged_at[kind] = now
        left_out = self._left_out.pop(kind, 0)
        self._logger.warning(message, extra=facts | ({"repeated": left_out} if left_out else {}))
