"""``ampd backfill --plan``: what it would take, and nothing is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ampd_ray.cli.options import config_path, solo_directory
from ampd_ray.cli.progress_line import ProgressLine
from ampd_ray.errors import UsageError

if TYPE_CHECKING:
    from ampd_ray.client.request import BackfillRequest, Probe


def print_plan(
    ctx: typer.Context,
    request: BackfillRequest,
    found: Probe,
    config: Path | None,
    amp_dir: Path | None,
    *,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Sample, with a line of progress on stderr, and print the plan."""
    from ampd_ray.client.planning.place import existing
    from ampd_ray.client.plans import plan_in

    path = config_path(ctx, config)
    if amp_dir is not None and path is not None and (config or ctx.find_root().obj["config"]):
        raise UsageError("give either --config or --amp-dir: the one is a configured database, the other a solo one")
    line = ProgressLine(sys.stderr, quiet=quiet, text=_progress_text)
    try:
        with existing(None, None if amp_dir else path, solo_directory(amp_dir)) as place:
            made = plan_in(place, request, found, on_progress=lambda done, of: line.update((done, of)))
    finally:
        line.end()
    if as_json:
        typer.echo(json.dumps(made.as_json()))
        return
    typer.echo(str(made))
    typer.echo("\nnothing was written; the same without --plan runs it")


def _progress_text(progress: tuple[int, int], secs: float) -> str:
    done, of = progress
    return f"sampling: {done} of {of} blocks"
