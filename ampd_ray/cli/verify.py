"""``ampd verify``: recompute hashes, roots and senders from the files of a dataset."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ampd_ray.cli.options import AmpDirOption, ConfigOption, DatasetArgument, JsonOption, open_client
from ampd_ray.cli.output import duration, one_line
from ampd_ray.cli.progress_line import ProgressLine
from ampd_ray.errors import UsageError

if TYPE_CHECKING:
    from ampd_ray.client.verify import CarryOut, Progress
    from ampd_ray.client.verify_report import Report
    from ampd_ray.client.verify_span import Unverified

EXAMPLES = """\b
Examples:
  ampd verify _/mainnet
  ampd verify _/mainnet --blocks 15M:+1000 --level roots
  ampd verify acme/eth@1.0.0 --processes 8 --json
  ampd verify _/mainnet --address auto           # on the Ray cluster of this machine
\b
Reads the Parquet files alone, and changes nothing. Level roots recomputes each block's hash and the roots of its
transactions and receipts, and compares what rows repeat of others; full also recomputes each transaction's hash and
its sender. What the files cannot tell is listed as unverified, neither right nor wrong. Ends with 0 if nothing is
wrong, with 1 if a block failed or could not be read, or if none of --blocks is there."""

LEVELS = ("roots", "full")
BAR = 30  # characters
SHOWN = 20


def verify(
    ctx: typer.Context,
    dataset: DatasetArgument,
    blocks: Annotated[
        str | None, typer.Option("--blocks", help="Block range, its end excluded; all if not given.")
    ] = None,
    level: Annotated[str, typer.Option("--level", help="roots or full.")] = "full",
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Processes to verify in; as many as there are CPUs.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Ray cluster to verify on, which reads the same data directory.")
    ] = None,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Verify a dataset: do its blocks hash as they say?"""
    from ampd_ray.chain.expression import parse_range
    from ampd_ray.client.verify import verify as run
    from ampd_ray.datasets.evm.verify import Level
    from ampd_ray.datasets.names import DatasetRef

    if level not in LEVELS:
        raise UsageError(f"--level {level!r}: it is one of {' or '.join(LEVELS)}")
    ref, wanted = DatasetRef.parse(dataset), parse_range(blocks) if blocks else None
    line = ProgressLine(sys.stderr, quiet=quiet, text=progress_text)
    with open_client(ctx, config, amp_dir) as client:
        try:
            report = run(
                client,
                ref,
                blocks=wanted,
                level=Level(level),
                carry_out=_carry_out(processes, address, insecure=client.settings.ampd_ray.insecure_ray),
                on_progress=line.update,
            )
        finally:
            line.end()
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        _print(report)
    raise typer.Exit(0 if report.sound else 1)


def _carry_out(processes: int | None, address: str | None, *, insecure: bool) -> CarryOut:
    """In processes here, or on a cluster."""
    from ampd_ray.client.verify import in_processes
    from ampd_ray.client.verify_span import verify_span

    if address is None:
        return partial(in_processes, processes=processes or os.cpu_count() or 1)
    if processes is not None:
        raise UsageError("give either --processes or --address: the one is on this machine, the other on a cluster")
    from ampd_ray.actors.environment import prepare
    from ampd_ray.node.preflight import reach_ray

    asyncio.run(reach_ray(address))
    prepare(os.environ, local=False)
    from ampd_ray.actors.spread import spread

    return lambda tasks: spread(verify_span, tasks, address, insecure=insecure)


def progress_text(progress: Progress, secs: float) -> str:
    """A bar, how far, how fast, how long still."""
    filled = BAR * progress.blocks // max(1, progress.total)
    rate = progress.blocks / secs if secs > 0 else 0.0
    parts = [
        f"[{'#' * filled}{'.' * (BAR - filled)}]",
        f"{progress.blocks:,} of {progress.total:,} blocks",
        f"{rate:,.0f}/s",
    ]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if rate > 0:
        parts.append(f"ETA {duration((progress.total - progress.blocks) / rate)}")
    return "  ".join(parts)


def _print(report: Report) -> None:
    typer.echo(f"{'dataset':14}{report.dataset} (manifest {report.manifest_hash[:12]})")
    if report.wanted is None:
        typer.echo("nothing of it has been extracted yet")
        return
    typer.echo(f"{'blocks':14}{report.wanted.start:,} to {report.wanted.end:,}, level {report.level}")
    typer.echo(f"{'passed':14}{report.passed:,}")
    typer.echo(f"{'failed':14}{len(report.failed) or 'none'}")
    for verdict in report.failed[:SHOWN]:
        typer.echo(
            f"  block {verdict.block:,}  {verdict.check}: expected {verdict.expected}, computed {verdict.computed}"
        )
    _more(len(report.failed))
    _stretches("unreadable", report.problems)
    _stretches("unverified", report.unverified)
    typer.echo(f"{'time':14}{duration(report.seconds)}")


def _stretches(name: str, stretches: tuple[Unverified, ...]) -> None:
    blocks = sum(len(stretch.span) for stretch in stretches)
    typer.echo(f"{name:14}{f'{blocks:,} blocks' if stretches else 'none'}")
    for stretch in stretches[:SHOWN]:
        typer.echo(one_line(f"  {stretch.span.start:,} to {stretch.span.end:,}: {stretch.reason}"))
    _more(len(stretches))


def _more(count: int) -> None:
    if count > SHOWN:
        typer.echo(f"  and {count - SHOWN:,} more; --json lists them all")
