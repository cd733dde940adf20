"""A sample in a few figures."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantiles(values: Sequence[float], *percents: int) -> dict[str, float]:
    """By nearest rank: ``{"p50": ..., "max": ...}``."""
    ordered = sorted(values)
    ranks = {f"p{percent}": math.ceil(percent * len(ordered) / 100) for percent in percents}
    return {name: ordered[max(0, rank - 1)] for name, rank in ranks.items()} | {"max": ordered[-1]}


def milliseconds(secs: Sequence[float]) -> dict[str, float]:
    """How long something took, in milliseconds."""
    return {name: round(1000 * value, 1) for name, value in quantiles(secs, 50, 90, 99).items()}
