"""What goes wrong below the level of processes, and how often everything went wrong."""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

from tests.simulator.loop import PROCESS

CUT: Final = 0.003  # of all statements lose their session, before or after they happened
COMMIT: Final = 0.04  # of all COMMITs get no answer
STORE: Final = 0.05  # of all calls to the store fail
LAST_CALL: Final = 0.01  # of all calls to the store are the last that their process makes
EXTRACTION: Final = 0.02  # of all extractions fail

COUNTED: Final = (
    "kills", "pauses", "stalls", "restarts", "drains", "stops", "takeovers", "fenced", "overlaps", "conflicts",
    "lost_answers", "refused_commits", "cuts", "outages", "lock_timeouts", "lost_writers", "lost_extractions",
    "store_errors", "reorgs", "collected", "late_writes", "sweeps",
)  # fmt: skip


class Faults:
    """Draws the small faults while ``on``; ``counts`` says of each kind how often it fired."""

    def __init__(self, rng: random.Random):
        self.on = True
        self.counts: Counter[str] = Counter()
        self._rng = rng

    def chance(self, probability: float) -> bool:
        """Whether something happens now; never to the simulator itself."""
        return self.on and PROCESS.get() is not None and self._rng.random() < probability

    def cuts(self, label: str) -> bool:
        """Whether the session breaks at this statement."""
        return self.chance(CUT) and self._count("cuts")

    def of_commit(self) -> str | None:
        """What becomes of a COMMIT whose answer is lost: ``committed``, ``not committed``; None: it is answered."""
        if not self.chance(COMMIT):
            return None
        if self._rng.random() < 0.6:
            self.counts["lost_answers"] += 1
            return "committed"
        self.counts["refused_commits"] += 1
        return "not committed"

    def of_store(self) -> str | None:
        """What becomes of a call to the store: ``error``, ``death`` of the caller before it is made, or None."""
        if self.chance(LAST_CALL):
            return "death"
        if self.chance(STORE):
            self.counts["store_errors"] += 1
            return "error"
        return None

    def extraction_fails(self) -> bool:
        """Whether the extractor of a span is lost."""
        return self.chance(EXTRACTION) and self._count("lost_extractions")

    def _count(self, kind: str) -> bool:
        self.counts[kind] += 1
        return True
