"""How many extractors a node wants: the pure decision, taken anew at each turn of whoever looks after them.

More of them help only where those that there are have no time left and a provider would still take more. What they
asked for is the demand that makes an autoscaled cluster grow, so nothing else may count: neither work that waits, nor
a provider that is slow. Fewer are wanted once so many have not been needed for a while.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ampd_ray.materialize.state import TASKS_PER_EXTRACTOR
from ampd_ray.materialize.types import Load

BUSY: Final = 0.75  # of an extractor's time; the rest is for what comes in waves
GROWTH: Final = 2  # times as many as there are, at most: of those that are asked for, none has shown yet that it helps


@dataclass(frozen=True)
class Bounds:
    """``fewest`` stay even without work; what was not needed for ``idle_secs`` is given back."""

    fewest: int
    most: int
    idle_secs: float


class Scaling:
    """The wish of one node: ``wanted`` extractors, which would be the ``needed`` ones if there were no others."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._needs: deque[tuple[float, int]] = deque()
        self.needed = self.wanted = max(1, bounds.fewest)  # before there was a turn

    def turn(self, now: float, loads: Sequence[Load], tasks: int, allowed: int | None = None) -> int:
        """``loads`` of those that there are, at ``now`` seconds; there is work for so many ``tasks`` at a time.

        ``allowed``: so many CPUs are left to us by other workers of the cluster; the first extractor needs none.
        """
        need = needed(loads, tasks)
        while self._needs and self._needs[-1][1] <= need:  # never the most again: those that stay descend
            self._needs.pop()
        self._needs.append((now, need))
        while now - self._needs[0][0] > self._bounds.idle_secs:
            self._needs.popleft()
        wanted = self.needed = min(max(self._needs[0][1], self._bounds.fewest), self._bounds.most)
        if allowed is not None:
            wanted = min(wanted, allowed + 1)
        self.wanted = wanted
        return wanted


def needed(loads: Sequence[Load], tasks: int) -> int:
    """How many extractors the work of now keeps busy, going by those that there are."""
    if not tasks:
        return 0
    used = sum(1.0 if load.full else load.busy for load in loads)
    if used < BUSY * len(loads):
        need = math.ceil(used / BUSY)
    else:
        room = sum(load.room for load in loads) * 2 > len(loads)
        need = len(loads) * GROWTH if room else len(loads)
    return max(1, min(need, math.ceil(tasks / TASKS_PER_EXTRACTOR)))
