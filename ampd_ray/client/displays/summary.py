"""What a job's range holds, as ``ampd backfill`` and a notebook tell it (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampd_ray.client.displays.figures import size
from ampd_ray.client.displays.words import spans_of

if TYPE_CHECKING:
    from ampd_ray.client.summary import Summary

HOLES = 10


def summary_text(summary: Summary, *, time: str, before: int = 0, data_dir: str | None = None) -> str:
    """A line each; ``before``: how many of its blocks were there when this began. ``time`` is how long it took."""
    there = f"; {before:,} were there before" if before else ""
    asked = summary.end - summary.start + 1
    span = f"{asked:,} ({summary.start:,} to {summary.end:,})" if asked else "0"
    where = f", in {data_dir}" if data_dir else ""
    quarantined = f"; {summary.quarantined:,} quarantined" if summary.quarantined else ""
    lines = {
        "dataset": f"{summary.dataset} ({summary.network})",
        "blocks": f"{summary.blocks:,} of {span}{there}",
        "rows": ", ".join(f"{count:,} {table}" for table, count in summary.rows.items()),
        "files": f"{summary.files:,}, {size(summary.bytes)}{where}",
        "retries": f"{summary.retries:,}",
        "holes": (spans_of(summary.holes, HOLES) or "none") + quarantined,
        "time": time,
    }
    return "\n".join(f"{name:10}{value}" for name, value in lines.items())
