"""From numbers to places in a picture (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from ampd_ray.client.displays.stretches import Stretch

TINY: Final = 1e-9  # what is less is nothing to be seen

TIME_STEPS: Final = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800,
)  # fmt: skip
"""Seconds between two marks of a clock."""


class Scale:
    """A straight line through two points, for a range that is not empty."""

    def __init__(self, low: float, high: float, first: float, last: float):
        self._low, self._first = low, first
        self._slope = (last - first) / (high - low) if high - low > TINY else 0.0

    def __call__(self, value: float) -> float:
        """Where ``value`` is."""
        return self._first + (value - self._low) * self._slope


def steps(piece: Sequence[Stretch], name: str, x: Scale, y: Scale) -> str:
    """A level for each stretch."""
    line = "M"
    for at, stretch in enumerate(piece):
        level = y(stretch.per_sec(name) or 0.0)
        line += f"{x(stretch.start):.1f} {level:.1f}" if at == 0 else f"V{level:.1f}"
        line += f"H{x(stretch.end):.1f}"
    return line


def most(found: Sequence[Stretch], name: str) -> float:
    """The highest level of a rate; there is one stretch at least."""
    return max(stretch.per_sec(name) or 0.0 for stretch in found)


def ticks(highest: float, about: int) -> list[float]:
    """Round numbers from 0 to at least ``highest``."""
    raw = (highest if TINY < highest < math.inf else 1.0) / about
    base = 10.0 ** math.floor(math.log10(raw))
    step = base * next(times for times in (1, 2, 2.5, 5, 10) if base * times >= raw * 0.999)
    return [step * at for at in range(math.ceil(highest / step - 1e-9) + 1 if TINY < highest < math.inf else 2)]


def time_step(secs: float, marks: int) -> float:
    """Seconds between round times of the clock, so that ``secs`` have at most so many, or days if need be."""
    fitting = (step for step in TIME_STEPS if secs / step <= marks)
    return next(fitting, 86_400.0 * math.ceil(secs / 86_400 / marks))
