"""``ampd coverage``: which blocks of a dataset are there, as a picture, and what to do about the others."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ampd_ray.cli.options import AmpDirOption, ConfigOption, DatasetArgument, JsonOption, again, open_client
from ampd_ray.cli.output import examples
from ampd_ray.cli.painter import has_colours, is_live
from ampd_ray.datasets.names import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from ampd_ray.chain.ranges import Span
    from ampd_ray.client.coverage import Coverage
    from ampd_ray.metadb.jobs import JobRow

COVERAGE_EXAMPLES = examples(
    "ampd coverage _/mainnet",
    "ampd coverage mainnet --blocks 15M:16M",
    "ampd coverage acme/eth@1.0.0 --json",
)


def coverage(
    ctx: typer.Context,
    dataset: DatasetArgument,
    blocks: Annotated[
        str | None, typer.Option("--blocks", help="Block range, its end excluded; all that was asked for by default.")
    ] = None,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which blocks are there, verified, quarantined, missing."""
    from ampd_ray.client.displays.coverage import coverage_text

    with open_client(ctx, config, amp_dir) as client:
        found = client.dataset(dataset)
        shown, job = found.coverage(blocks), found.job()
        row, start = None if job is None else client.job_row(job.id), found.start_block
    if as_json:
        typer.echo(json.dumps(shown.as_json()))
        return
    colour = is_live(sys.stdout) and has_colours()
    typer.echo(coverage_text(shown, shutil.get_terminal_size().columns, colour=colour))
    for line in (*lacking(shown), *next_steps(ctx, shown, row, start)):
        typer.echo(line)


def lacking(shown: Coverage) -> Iterator[str]:
    """What is missing and quarantined, in short; tables that lack the same are told together."""
    from ampd_ray.client.displays.figures import plural
    from ampd_ray.client.displays.words import spans_of

    for kind in ("missing", "quarantined"):
        alike: dict[tuple[Span, ...], list[str]] = {}
        for name, table in shown.tables.items():
            alike.setdefault(tuple(getattr(table, kind)), []).append(name)
        for spans, names in alike.items():
            if spans:
                of = "" if len(names) == len(shown.tables) else f" of {', '.join(names)}"
                yield f"{kind}{of}: {spans_of(spans)} ({plural(sum(map(len, spans)), 'block')})"


def next_steps(ctx: typer.Context, shown: Coverage, job: JobRow | None, start: int) -> Iterator[str]:
    """The commands to type next; ``start`` is the dataset's first block."""
    tables = shown.tables.values()
    if job is not None and any(table.quarantined for table in tables):
        yield f"why they are quarantined: {again(ctx, f'jobs holes {job.job_id}')}"
        yield f"to ask for them again: {again(ctx, f'jobs retry {job.job_id} --quarantined')}"
    if any(table.missing for table in tables) or not any(table.covered for table in tables):
        yield _fill(ctx, shown, job, start)
    elif any(table.unverified for table in tables):
        yield f"to verify what is there: {again(ctx, f'verify {shown.dataset}')}"


def _fill(ctx: typer.Context, shown: Coverage, job: JobRow | None, start: int) -> str:
    """How to get what is missing: wait for the job, or run it, or extend what it is to do."""
    if job is not None and not job.status.terminal:
        return f"job {job.job_id} is {job.status}: {again(ctx, f'jobs watch {job.job_id}')}"
    last = max((table.missing[-1].end for table in shown.tables.values() if table.missing), default=None)
    if shown.dataset.startswith(f"{DEFAULT_NAMESPACE}/"):  # as a backfill names what it fills
        blocks = f"{start}:latest" if last is None else f"{start}:{last + 1}"
        return f"to fill it: {again(ctx, f'backfill --rpc URL --blocks {blocks}')}"
    end = "latest" if last is None else str(last)
    if job is not None and job.status != "COMPLETED":
        return f"job {job.job_id} is {job.status}; to go on: {again(ctx, f'jobs retry {job.job_id}')}"
    return f"to fill it: {again(ctx, f'deploy {shown.dataset} --end-block {end}')}"
