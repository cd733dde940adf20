"""``ampd jobs``: what runs, how far it is, and how it ended."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampd_ray.cli.display import Display
from ampd_ray.cli.options import (
    AmpDirOption,
    ConfigOption,
    JobArgument,
    JsonOption,
    again,
    is_solo,
    open_client,
    workers_there,
)
from ampd_ray.cli.output import duration, examples, print_object, print_rows, size, without_advice
from ampd_ray.errors import DataFault, StillRunning

if TYPE_CHECKING:
    from ampd_ray.client.progress import Progress
    from ampd_ray.metadb.jobs import JobRow

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Jobs: list, watch, stop, try again, remove.",
    epilog=examples("ampd jobs list --active", "ampd jobs watch 1", "ampd jobs stop 1", "ampd jobs retry 1"),
)


@app.command("list", epilog=examples("ampd jobs list", "ampd jobs list --active --json"))
def list_(
    ctx: typer.Context,
    active: Annotated[bool, typer.Option("--active", help="Only those that have not ended.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 50,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    with open_client(ctx, config, amp_dir) as client:
        rows = [_fields(row, as_json) for row in client.jobs(active_only=active, limit=limit)]
    first = "backfill --rpc URL --blocks RANGE" if is_solo(ctx, config, amp_dir) else "deploy NAMESPACE/NAME"
    print_rows(
        rows, ["job_id", "status", "quarantined", "dataset", "end_block", "priority", "node_id", "updated_at"],
        as_json=as_json,
        empty=f"no jobs yet; the first one: {again(ctx, first)}",
    )  # fmt: skip


@app.command("show", epilog=examples("ampd jobs show 1", "ampd jobs show 1 --json"))
def show(
    ctx: typer.Context,
    job: JobArgument,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one job with its descriptor, and its error if it has failed."""
    with open_client(ctx, config, amp_dir) as client:
        row = client.job_row(job)
    error = row.detail if row.status in ("ERROR", "FATAL") else None
    print_object(_fields(row, as_json) | {"descriptor": row.descriptor, "error": error}, as_json=as_json)


@app.command("progress", epilog=examples("ampd jobs progress 1", "ampd jobs progress 1 --json"))
def progress(
    ctx: typer.Context,
    job: JobArgument,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a job is, how fast it goes and what holds it back."""
    with open_client(ctx, config, amp_dir) as client:
        now = client.job(job).progress()
    fields = {"job_id": job, "status": str(now.status), **_set_aside(now.holes, as_json)}
    print_object(fields | progress_fields(now, as_json), as_json=as_json)


WATCH_EXAMPLES = """\b
Examples:
  ampd jobs watch 1
  ampd jobs watch 1 --until-ended
  ampd jobs watch 1 --json
\b
Watching never stops the job: Ctrl-C ends the watching alone, with exit code 0. Otherwise: 0 if the job is complete, 1
if it failed, was stopped or has holes. A failed job may be tried again by itself; --until-ended waits for that."""


@app.command("watch", epilog=WATCH_EXAMPLES)
def watch(
    ctx: typer.Context,
    job: JobArgument,
    until_ended: Annotated[
        bool, typer.Option("--until-ended", help="Go on after an error that is tried again.")
    ] = False,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each change.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only how it ended.")] = False,
) -> None:
    """Watch a job until it ends: how far it is, how fast, and what holds it back."""
    from ampd_ray.cli.watching import as_lines, ending, follow, subject_of

    display = Display(sys.stderr, quiet=quiet or as_json)
    with open_client(ctx, config, amp_dir) as client:
        handle = client.job(job)
        try:
            if as_json:
                last = follow(handle, as_lines(typer.echo), for_good=until_ended)
            else:
                with display.watching(subject_of(client, handle)) as update:
                    last = follow(handle, update, for_good=until_ended)
        except KeyboardInterrupt:
            display.say(f"job {job} goes on; to watch it again: {again(ctx, f'jobs watch {job}')}")
            raise typer.Exit(0) from None
        failure = handle.failure()
    if failure is not None:
        raise failure
    if not as_json:
        typer.echo(ending(last, lambda command: again(ctx, command)))
    raise typer.Exit(0 if last.status == "COMPLETED" and not last.holes else 1)


@app.command("events", epilog=examples("ampd jobs events 1", "ampd jobs events 1 --json"))
def events(
    ctx: typer.Context,
    job: JobArgument,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a job's status changes, oldest first."""
    with open_client(ctx, config, amp_dir) as client:
        rows = [
            {"id": e.id, "created_at": e.created_at, "node_id": e.node_id, "event": e.event_type, "detail": e.detail}
            for e in client.job(job).events()
        ]
    print_rows(rows, ["id", "created_at", "node_id", "event"], as_json=as_json, empty=f"job {job} has no events")


@app.command("holes", epilog=examples("ampd jobs holes 1", "ampd jobs holes 1 --json"))
def holes(
    ctx: typer.Context,
    job: JobArgument,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the blocks of a job's dataset that no provider delivers correctly; they are set aside, the rest is there."""
    with open_client(ctx, config, amp_dir) as client:
        found = [asdict(hole) for hole in client.job(job).holes()]
    rows = found if as_json else [hole | {"reason": without_advice(hole["reason"])} for hole in found]
    print_rows(
        rows, ["block", "provider", "attempts", "last_seen", "reason"], as_json=as_json,
        empty=f"job {job} has no holes",
    )  # fmt: skip
    if rows and not as_json:
        typer.echo(DataFault.ADVICE)
        typer.echo(f"ask for them again: {again(ctx, f'jobs retry {job} --quarantined')}")


@app.command("retry", epilog=examples("ampd jobs retry 1", "ampd jobs retry 1 --quarantined --worker 'extract-*'"))
def retry(
    ctx: typer.Context,
    job: JobArgument,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="Ask again for the blocks that are set aside.")
    ] = False,
    worker: Annotated[str | None, typer.Option("--worker", help="Node ID, or PREFIX*.")] = None,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an ended job once more, however it ended; what is committed is not extracted again.

    A solo environment is started for it, and ends with it.
    """
    display = Display(sys.stderr, quiet=as_json)
    with open_client(ctx, config, amp_dir) as client:
        handle = client.job(job)
        with workers_there(ctx, config, amp_dir, display):
            asked = handle.retry(worker, quarantined=quarantined)
            row = handle.row()
            fields = {
                "job_id": job,
                "node_id": row.node_id,
                "status": str(row.status),
                **_set_aside(row.holes, as_json),
            }
            print_object(fields | ({"asked_again": asked} if quarantined else {}), as_json=as_json)
            display.say(f"it goes on in the background; to watch it: {again(ctx, f'jobs watch {job}')}")


@app.command("stop", epilog=examples("ampd jobs stop 1", "ampd jobs stop 1 --wait 30"))
def stop(
    ctx: typer.Context,
    job: JobArgument,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for its end.")] = 0.0,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a job to stop; complete blocks are committed first. A later deploy resumes it."""
    with open_client(ctx, config, amp_dir) as client:
        handle = client.job(job)
        handle.stop()
        late = False
        try:
            row = handle.outcome(wait) if wait else handle.row()
        except TimeoutError:
            row, late = handle.row(), True
    print_object({"job_id": job, "status": str(row.status)}, as_json=as_json)
    if late and not row.status.terminal:
        raise StillRunning(f"job {job} is still stopping after {wait:g} s; see `{again(ctx, f'jobs watch {job}')}`")


@app.command("rm", epilog=examples("ampd jobs rm 1"))
def remove(
    ctx: typer.Context,
    job: JobArgument,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete an ended job's row and events; its data stays."""
    with open_client(ctx, config, amp_dir) as client:
        client.job(job).remove()
    print_object({"job_id": job, "removed": True}, as_json=as_json)


def progress_fields(now: Progress, as_json: bool) -> dict[str, Any]:
    """A job's progress as fields, with units where people read it."""
    fields: dict[str, Any] = {
        "phase": now.phase,
        "blocks_done": now.done,
        "blocks_total": now.total,
        "percent": None if now.share is None else round(100 * now.share, 1),
        "blocks_per_sec": None if now.blocks_per_sec is None else round(now.blocks_per_sec, 1),
        "rows": dict(now.rows),
        "bytes": now.bytes if as_json else size(now.bytes),
        "rpc_requests": now.rpc_requests,
        "retries": now.retries,
        "limiting_factor": now.limit,
        "eta_secs": now.eta_secs,
        "node_id": now.node_id,
        "age_secs": None if now.age_secs is None else round(now.age_secs, 1),
    }
    if not as_json:
        fields["eta"] = None if now.eta_secs is None else duration(now.eta_secs)
        del fields["eta_secs"]
    return fields


def _fields(row: JobRow, as_json: bool) -> dict[str, Any]:
    from ampd_ray.client.work import name_of, priority_of

    descriptor = row.descriptor if isinstance(row.descriptor, dict) else {}  # it may be anybody's
    return {
        "job_id": row.job_id,
        "status": str(row.status),
        **_set_aside(row.holes, as_json),
        "dataset": name_of(row) or None,
        "end_block": descriptor.get("end_block"),
        "priority": priority_of(row),
        "node_id": row.node_id,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _set_aside(count: int, as_json: bool) -> dict[str, Any]:
    """How many blocks are quarantined; programs know them as holes, which in a summary are all that is missing."""
    return {"quarantined": count, "holes": count} if as_json else {"quarantined": count}
