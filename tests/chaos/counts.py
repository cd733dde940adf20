"""What happened in all, for people and for programs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ampd_ray.failpoints import POINTS
from tests.chaos.plan import ACTIONS, Outside, Schedule

KILLS = [kind for kind in Outside if kind.name.startswith("KILL")]
PAUSES = [kind for kind in Outside if kind.name.startswith("PAUSE")]


@dataclass
class Counts:
    """Grows by ``add``. ``takeovers``, ``fenced`` and ``restarts`` are set from outside, as totals."""

    schedules: int = 0
    violations: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(POINTS, 0)))
    acted: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(ACTIONS, 0)))
    recoveries: list[float] = field(default_factory=list)
    takeovers: int = 0
    fenced: int = 0
    restarts: int = 0
    files: int = 0
    blocks: int = 0

    def add(self, plan: Schedule, injected: dict[str, int], points: dict[str, int], recovered: float | None) -> None:
        """One more schedule, with what really happened in it."""
        self.schedules += 1
        self.injected.update(name for name, times in injected.items() if times)
        self.fired.update(points)
        for arm in plan.arms:
            self.acted[arm.action] += points[arm.point]
        if recovered is not None:
            self.recoveries.append(recovered)

    def json(self, secs: float) -> dict[str, Any]:
        """The last line."""
        kills, pauses = (sum(self.injected[kind] for kind in kinds) for kinds in (KILLS, PAUSES))
        return {
            "schedules": self.schedules,
            "violations": self.violations,
            "kills": kills + self.acted["kill"],
            "pauses": pauses + self.acted["stop"],
            "takeovers": self.takeovers,
            "fenced": self.fenced,
            "fired": dict(self.fired),
            "injected": dict(sorted(self.injected.items())),
            "restarts": self.restarts,
            "recovery_p50": quantile(self.recoveries, 0.5),
            "recovery_p99": quantile(self.recoveries, 0.99),
            "files": self.files,
            "blocks": self.blocks,
            "secs": round(secs, 1),
        }


def quantile(values: list[float], share: float) -> float | None:
    """The least value that is not exceeded by ``share`` of them; None without any."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
