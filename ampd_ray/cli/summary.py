"""What ``ampd backfill`` leaves behind, for people and programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from ampd_ray.cli.options import again
from ampd_ray.cli.output import duration, one_line, without_advice
from ampd_ray.errors import DataFault

if TYPE_CHECKING:
    from ampd_ray.chain.ranges import Span
    from ampd_ray.client import Job, Summary


def print_summary(summary: Summary, before: int, data_dir: str, *, as_json: bool) -> None:
    """``before``: how many of the blocks were there when this began."""
    if as_json:
        typer.echo(json.dumps(summary.as_json()))
        return
    from ampd_ray.client.displays.summary import summary_text

    time = duration(summary.seconds)
    typer.echo(summary_text(summary, time=time, before=before, data_dir=data_dir))


def print_quarantined(ctx: typer.Context, run: Job, span: Span, count: int) -> None:
    """What is wrong with the first of the holes, and what can be done about all of them."""
    first = next(hole for hole in run.holes() if hole.block in span)
    typer.echo(f"\n{count:,} of the blocks that are missing {'is' if count == 1 else 'are'} right at no provider:")
    typer.echo(one_line(f"  {without_advice(first.reason)}"))
    typer.echo(DataFault.ADVICE)
    typer.echo(f"all of them:  {again(ctx, f'jobs holes {run.id}')}")
    typer.echo(f"to ask again: {again(ctx, f'jobs retry {run.id} --quarantined')}")
