"""``ampd backfill``: from an RPC URL to Parquet, with one bar and a summary."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ampd_ray.cli.display import Display
from ampd_ray.cli.options import AmpDirOption, ConfigOption, config_path, configured, solo_directory
from ampd_ray.cli.output import duration, size
from ampd_ray.errors import UsageError

if TYPE_CHECKING:
    from ampd_ray.chain.ranges import Span
    from ampd_ray.client import Client, Job, Summary
    from ampd_ray.client.prepare import Prepared

EXAMPLES = """\b
Examples:
  ampd backfill --rpc http://127.0.0.1:8545 --blocks 0:1000
  ampd backfill --rpc https://eth.example.com --blocks 18M:+1000 --tables blocks,logs
  ampd backfill --rpc https://eth.example.com --blocks -1000: --writers 2
\b
Ranges exclude their end: 15M:16M, 15M:+1000 (1,000 blocks), -1000: (the last 1,000), 18_000_000:18_000_100,
18M:latest. The same command again resumes. Ends with 0 if the range is complete, 1 if it has holes."""

STOP_WITHIN_SECS = 30.0


def backfill(
    ctx: typer.Context,
    rpc: Annotated[str, typer.Option("--rpc", help="JSON-RPC address: http(s)://, ws(s):// or ipc://.")],
    blocks: Annotated[str, typer.Option("--blocks", help="Block range, its end excluded.")],
    network: Annotated[str | None, typer.Option("--network", help="Its name; by default found by chain id.")] = None,
    tables: Annotated[str | None, typer.Option("--tables", help="Comma list of blocks, transactions, logs.")] = None,
    writers: Annotated[int, typer.Option("--writers", min=1, max=64, help="Files written at a time.")] = 1,
    verify: Annotated[bool, typer.Option("--verify", help="Recompute each block's hash and roots first.")] = False,
    verify_full: Annotated[
        bool, typer.Option("--verify-full", help="The same, with transaction hashes and senders.")
    ] = False,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one last line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Extract a block range into Parquet, in a solo environment or on the configured database."""
    from ampd_ray.client.prepare import prepare
    from ampd_ray.client.request import BackfillRequest, probe

    wanted = tuple(table.strip() for table in tables.split(",")) if tables else None
    request = BackfillRequest(
        rpc=rpc,
        blocks=blocks,
        network=network,
        tables=wanted,
        writers=writers,
        verify="full" if verify_full else verify,
    )
    relative = request.checked().is_relative
    display = Display(sys.stderr, quiet=quiet)
    found = probe(request)
    span = request.resolved(found)
    which = "" if relative else f", {_blocks(span)}"  # an unfinished backfill may have settled what is relative
    display.say(f"{request.network_of(found)} (chain {found.chain_id}), head {found.head.number:,}{which}")
    started = time.monotonic()
    where = f" --amp-dir {amp_dir}" if amp_dir else f" --config {config}" if config else ""
    with _open(ctx, config, amp_dir, display) as client:
        prepared = prepare(client, request, found)
        if relative:
            earlier = "" if prepared.span == span else f", which is what {blocks} meant when this was started"
            display.say(f"{_blocks(prepared.span)}{earlier}")
        if prepared.covered and (verify or verify_full):
            display.say(
                f"what is there already is not verified again; for that: ampd verify {prepared.dataset.dataset}{where}"
            )
        run, failure = _run(prepared, display)
        if run is not None:
            summary = replace(run.summary(), seconds=time.monotonic() - started)
            # Before a solo environment takes its time to end.
            _print(summary, as_json, client.settings.data_dir, failure)
            if summary.quarantined and not as_json:
                _print_quarantined(run, prepared.span, summary.quarantined, where)
    if run is None:
        typer.echo(f"error: {failure}", err=True)
        raise typer.Exit(1)
    raise typer.Exit(1 if summary.holes or failure else 0)


def _open(ctx: typer.Context, config: Path | None, amp_dir: Path | None, display: Display) -> Client:
    """The configured database, else a solo environment that is made on first use."""
    from ampd_ray.client import Client, local

    path = config_path(ctx, config)
    if amp_dir is not None and (config or ctx.find_root().obj["config"]):
        raise UsageError("give either --config or --amp-dir: the one is a configured database, the other a solo one")
    if path is not None and amp_dir is None:
        return Client(configured(ctx, path))
    with display.waiting("starting Postgres, Ray and a worker"):
        return local(solo_directory(amp_dir))


def _run(prepared: Prepared, display: Display) -> tuple[Job | None, str | None]:
    """Start the job and watch it to its end; what went wrong, if anything. Ctrl-C stops the job, if there is one."""
    run = None
    try:
        run = prepared.start()
        _watch(run, prepared, display)
    except KeyboardInterrupt:
        run = run or prepared.active_job()
        return (run, _stop(run, display)) if run else (None, "interrupted before there was a job")
    failure = run.failure()
    return run, None if failure is None else str(failure)


def _watch(run: Job, prepared: Prepared, display: Display) -> None:
    if run.other_provider is not None:
        display.say(
            f"job {run.id} is at work already with another provider ({run.other_provider}), and goes on with that; "
            f"to use {run.provider}: ampd jobs stop {run.id}, then this command again"
        )
    if prepared.covered:
        display.say(f"resuming: {100 * prepared.covered // len(prepared.span)} % covered")
    with display.bar(len(prepared.span), prepared.covered) as update:
        run.outcome(on_progress=update)


def _stop(run: Job, display: Display) -> str | None:
    """Let the job commit what is complete; pressed again, Ctrl-C does not wait for that."""
    display.say("stopping: complete blocks are committed first")
    try:
        run.stop()
        row = run.outcome(STOP_WITHIN_SECS)
    except TimeoutError:
        return f"job {run.id} has not stopped within {STOP_WITHIN_SECS:.0f} s; the same command again resumes"
    except KeyboardInterrupt:
        return f"interrupted before job {run.id} had stopped; the same command again resumes"
    return None if row.status == "COMPLETED" else "stopped; the same command again resumes"


def _blocks(span: Span) -> str:
    return f"blocks {span.start:,} to {span.end:,}"


def _print_quarantined(run: Job, span: Span, count: int, where: str) -> None:
    """What is wrong with the first of the holes, and what can be done about all of them."""
    first = next(hole for hole in run.holes() if hole.block in span)
    typer.echo(f"\n{count:,} of the blocks that are missing {'is' if count == 1 else 'are'} right at no provider:")
    typer.echo(f"  {first.reason}")
    typer.echo(f"all of them:  ampd jobs holes {run.id}{where}")
    typer.echo(f"to ask again: ampd jobs retry {run.id} --quarantined{where}")


def _print(summary: Summary, as_json: bool, data_dir: str, failure: str | None) -> None:
    if failure:
        typer.echo(f"error: {failure}", err=True)
    if as_json:
        typer.echo(json.dumps(summary.as_json()))
        return
    rows = ", ".join(f"{count:,} {table}" for table, count in summary.rows.items())
    holes = ", ".join(f"{hole.start:,} to {hole.end:,}" for hole in summary.holes[:10]) or "none"
    more = f" and {len(summary.holes) - 10} more" if len(summary.holes) > 10 else ""
    typer.echo(f"dataset   {summary.dataset} ({summary.network})")
    asked = f"{summary.end - summary.start + 1:,} ({summary.start:,} to {summary.end:,})"
    typer.echo(f"blocks    {summary.blocks:,} of {asked}")
    typer.echo(f"rows      {rows}")
    typer.echo(f"files     {summary.files}, {size(summary.bytes)}, in {data_dir}")
    typer.echo(f"retries   {summary.retries}")
    typer.echo(f"holes     {holes}{more}")
    typer.echo(f"time      {duration(summary.seconds)}")
