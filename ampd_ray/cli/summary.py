"""What ``ampd backfill`` leaves behind, for people and programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from ampd_ray.cli.options import again
from ampd_ray.cli.output import duration, size

if TYPE_CHECKING:
    from ampd_ray.chain.ranges import Span
    from ampd_ray.client import Job, Summary


def print_summary(summary: Summary, before: int, data_dir: str, *, as_json: bool) -> None:
    """``before``: how many of the blocks were there when this began."""
    if as_json:
        typer.echo(json.dumps(summary.as_json()))
        return
    rows = ", ".join(f"{count:,} {table}" for table, count in summary.rows.items())
    holes = ", ".join(f"{hole.start:,} to {hole.end:,}" for hole in summary.holes[:10]) or "none"
    more = f" and {len(summary.holes) - 10} more" if len(summary.holes) > 10 else ""
    typer.echo(f"dataset   {summary.dataset} ({summary.network})")
    asked = f"{summary.end - summary.start + 1:,} ({summary.start:,} to {summary.end:,})"
    there = f"; {before:,} were there before" if before else ""
    typer.echo(f"blocks    {summary.blocks:,} of {asked}{there}")
    typer.echo(f"rows      {rows}")
    typer.echo(f"files     {summary.files}, {size(summary.bytes)}, in {data_dir}")
    typer.echo(f"retries   {summary.retries}")
    typer.echo(f"holes     {holes}{more}")
    typer.echo(f"time      {duration(summary.seconds)}")


def print_quarantined(ctx: typer.Context, run: Job, span: Span, count: int) -> None:
    """What is wrong with the first of the holes, and what can be done about all of them."""
    first = next(hole for hole in run.holes() if hole.block in span)
    typer.echo(f"\n{count:,} of the blocks that are missing {'is' if count == 1 else 'are'} right at no provider:")
    typer.echo(f"  {first.reason}")
    typer.echo(f"all of them:  {again(ctx, f'jobs holes {run.id}')}")
    typer.echo(f"to ask again: {again(ctx, f'jobs retry {run.id} --quarantined')}")
