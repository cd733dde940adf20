"""Blocks as people speak of them: their kinds, shares and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from ampd_ray.chain.ranges import Span
from ampd_ray.client.displays.strip import Mark

WORDS = {
    Mark.VERIFIED: "covered, verified",
    Mark.UNVERIFIED: "covered, not verified",
    Mark.PART: "some missing",
    Mark.QUARANTINED: "quarantined",
    Mark.MISSING: "missing",
}


def percent(part: int, whole: int) -> str:
    """A share that is 100 % only if nothing lacks, and 0 % only if nothing is there."""
    if part == whole:
        return "100 %"
    hundredths = 10_000 * part // whole
    if part and not hundredths:
        return "<0.01 %"
    return f"{hundredths / 100:g} %"


def blocks_of(span: Span) -> str:
    """``5`` or ``5 to 1,000``."""
    return f"{span.start:,}" if len(span) == 1 else f"{span.start:,} to {span.end:,}"


def spans_of(spans: Sequence[Span], most: int = 5) -> str:
    """The first few of them, and how many more there are."""
    told = ", ".join(map(blocks_of, spans[:most]))
    return f"{told} and {len(spans) - most:,} more" if len(spans) > most else told
