"""``ampd check``: hold the files of a dataset against its rows, and the rows against each other."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ampd_ray.cli.options import AmpDirOption, ConfigOption, DatasetArgument, JsonOption, again, open_client
from ampd_ray.cli.output import duration, one_line, size
from ampd_ray.cli.progress_line import ProgressLine

if TYPE_CHECKING:
    from ampd_ray.client.check import CheckedTable, Report
    from ampd_ray.materialize.check import Progress

EXAMPLES = """\b
Examples:
  ampd check _/mainnet
  ampd check acme/eth@1.0.0 --json
  ampd check _/mainnet --repair
\b
Reads every file once, and changes nothing unless told to. With --repair it mends the segment index and cached footers,
finishes interrupted deletions, and deletes objects that nothing accounts for and that are older than a day; files that
are registered are never touched. Ends with 0 if all is well (again), 1 if something is wrong."""

SHOWN_PER_KIND = 10


def check(
    ctx: typer.Context,
    dataset: DatasetArgument,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is safe to mend.")] = False,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Audit a dataset: hold its rows and files against each other. Checksums, coverage, chain and leftovers too."""
    from ampd_ray.client.check import check as audit
    from ampd_ray.datasets.names import DatasetRef

    ref = DatasetRef.parse(dataset)
    line = ProgressLine(sys.stderr, quiet=quiet, text=progress_text)
    with open_client(ctx, config, amp_dir) as client:
        try:
            report = audit(client, ref, repair=repair, on_progress=line.update)
        finally:
            line.end()
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        _print(ctx, report, repair)
    raise typer.Exit(1 if report.remaining else 0)


def progress_text(progress: Progress, secs: float) -> str:
    """How far, how fast, how long still."""
    rate = progress.bytes / secs if secs > 0 else 0.0
    parts = [
        f"{100 * progress.bytes // max(1, progress.bytes_total):3} %",
        f"{progress.files:,} of {progress.files_total:,} files",
        f"{size(rate)}/s",
    ]
    if rate > 0:
        parts.append(f"ETA {duration(max(0, progress.bytes_total - progress.bytes) / rate)}")
    return "  ".join(parts)


def _print(ctx: typer.Context, report: Report, repair: bool) -> None:
    typer.echo(f"{'dataset':14}{report.dataset} (manifest {report.manifest_hash[:12]})")
    for table in report.tables:
        typer.echo(f"{table.table:14}{_extent(table)}")
    if not report.tables:
        typer.echo("nothing of it has been extracted yet")
    if report.verified:
        levels = ", ".join(f"{level} {blocks:,}" for level, blocks in report.verified.items())
        typer.echo(f"{'verified':14}{levels}")
    if report.quarantined:
        blocks = ", ".join(f"{block:,}" for block in report.quarantined[:SHOWN_PER_KIND])
        more = (
            f" and {len(report.quarantined) - SHOWN_PER_KIND:,} more"
            if len(report.quarantined) > SHOWN_PER_KIND
            else ""
        )
        typer.echo(f"{'set aside':14}{blocks}{more}: right at no provider, see {again(ctx, 'jobs holes JOB')}")
    repaired = len(report.findings) - len(report.remaining)
    suffix = f", {repaired} of them repaired" if repaired else ""
    typer.echo(f"{'findings':14}{len(report.findings) or 'none'}{suffix}")
    shown: Counter[tuple[str, bool]] = Counter()
    for finding in report.findings:
        key = (str(finding.kind), finding.repaired)
        shown[key] += 1
        if shown[key] <= SHOWN_PER_KIND:
            done = " (repaired)" if finding.repaired else ""
            typer.echo(one_line(f"  {finding.kind}  {finding.table}  {finding.subject}: {finding.message}{done}"))
    for (kind, _), count in shown.items():
        if count > SHOWN_PER_KIND:
            typer.echo(f"  {kind}  and {count - SHOWN_PER_KIND:,} more; --json lists them all")
    for advice in _advice(ctx, report, repaired=repair):
        typer.echo(f"{'to do':14}{advice}")
    typer.echo(f"{'time':14}{duration(report.seconds)}")


def _advice(ctx: typer.Context, report: Report, *, repaired: bool) -> Iterator[str]:
    """What helps with what was found, each thing once."""
    from ampd_ray.materialize.audit import TO_EXTRACT
    from ampd_ray.materialize.mend import MENDABLE

    kinds = {finding.kind for finding in report.remaining}
    if kinds & MENDABLE and not repaired:
        yield f"what is safe to mend: {again(ctx, f'check {report.dataset} --repair')}"
    if kinds & TO_EXTRACT:
        yield "blocks that are in no file: the same backfill or deployment again extracts them"
    if report.quarantined:
        yield f"blocks that are set aside: {again(ctx, 'jobs retry JOB --quarantined')}"


def _extent(table: CheckedTable) -> str:
    blocks = ", ".join(f"{span.start:,} to {span.end:,}" for span in table.covered[:3]) or "no blocks"
    more = f" and {len(table.covered) - 3} more stretches" if len(table.covered) > 3 else ""
    return f"{table.files:,} files, {size(table.bytes)}, {blocks}{more}"
