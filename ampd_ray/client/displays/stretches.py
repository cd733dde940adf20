"""Samples of a job's speed brought to few enough stretches of time to draw (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampd_ray.client.progress import Rate

GAP_SECS = 2.0  # between two samples; what is longer was a pause


@dataclass
class Stretch:
    """What was done from ``start`` to ``end`` seconds after the first sample began; ``secs`` of them are known."""

    start: float
    end: float
    secs: float = 0.0
    blocks: float = 0.0
    rows: float = 0.0
    requests: float = 0.0
    limits: dict[str | None, float] = field(default_factory=dict)

    def add(self, rate: Rate, secs: float) -> None:
        """``secs`` of a sample fall into it."""
        self.secs += secs
        self.blocks += rate.blocks_per_sec * secs
        self.rows += rate.rows_per_sec * secs
        self.requests += rate.requests_per_sec * secs
        self.limits[rate.limit] = self.limits.get(rate.limit, 0.0) + secs

    def per_sec(self, amount: str) -> float | None:
        """The mean of ``blocks``, ``rows`` or ``requests``; None if nothing is known of it."""
        return float(getattr(self, amount)) / self.secs if self.secs > 0 else None

    @property
    def limit(self) -> str | None:
        """What held the job back for most of it."""
        return max(self.limits, key=self.limits.__getitem__) if self.limits else None


def began(samples: Sequence[Rate]) -> datetime:
    """When the first sample began; there is one at least."""
    return samples[0].at - timedelta(seconds=samples[0].secs)


def stretches(samples: Sequence[Rate], most: int) -> list[Stretch]:
    """At most ``most`` of them, one for each sample if there are few, else equally long ones; ascending."""
    ends = [(rate.at - began(samples)).total_seconds() for rate in samples]
    if not ends or ends[-1] <= 0:
        return []
    spans = [
        (max(end - rate.secs, before), end) for rate, end, before in zip(samples, ends, [0.0, *ends], strict=False)
    ]
    if len(samples) <= most:
        found = [Stretch(start, end) for start, end in spans]
        for stretch, rate in zip(found, samples, strict=True):
            stretch.add(rate, stretch.end - stretch.start)
        return [stretch for stretch in found if stretch.secs > 0]
    width = ends[-1] / most
    found = [Stretch(at * width, (at + 1) * width) for at in range(most)]
    for rate, (start, end) in zip(samples, spans, strict=True):
        for stretch in found[min(most - 1, int(start / width)) : min(most, int(end / width) + 1)]:
            inside = min(end, stretch.end) - max(start, stretch.start)
            if inside > 0:
                stretch.add(rate, inside)
    return [stretch for stretch in found if stretch.secs > 0]


def pieces(found: Sequence[Stretch]) -> list[list[Stretch]]:
    """Those that follow one another without a pause, together."""
    runs: list[list[Stretch]] = []
    for stretch in found:
        if runs and stretch.start - runs[-1][-1].end <= GAP_SECS:
            runs[-1].append(stretch)
        else:
            runs.append([stretch])
    return runs
