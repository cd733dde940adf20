"""How long those that were asked to end may take, as a pure machine."""

from __future__ import annotations

import math
from typing import Final

AT_ONCE_SECS: Final = 5.0  # beyond the time of a drain, or after the second time of asking


class Ending:
    """Asked once, they drain; asked again, they end at once; after ``at_last`` nobody waits for them."""

    def __init__(self, drain_secs: float) -> None:
        self.asked = 0
        self.at_last = math.inf
        self._within = drain_secs + AT_ONCE_SECS

    def ask(self, now: float) -> None:
        """They are asked, once more."""
        self.asked += 1
        if self.asked > 1:
            self._within = AT_ONCE_SECS
        self.at_last = min(self.at_last, now + self._within)

    def __str__(self) -> str:
        return f"within {self._within:g} s of being asked{' again' if self.asked > 1 else ''}"
