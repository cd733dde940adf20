"""``ampd backfill``: from an RPC URL to Parquet, with one bar and a summary."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ampd_ray import log
from ampd_ray.cli import completion
from ampd_ray.cli.card import Subject
from ampd_ray.cli.display import Display
from ampd_ray.cli.options import (
    AmpDirOption,
    ConfigOption,
    NewNetworkOption,
    PriorityOption,
    again,
    configured,
    is_solo,
    network_name,
    solo_directory,
    start_solo,
)
from ampd_ray.cli.output import print_error
from ampd_ray.cli.plan import print_plan
from ampd_ray.cli.summary import print_quarantined, print_summary
from ampd_ray.errors import AmpdError, ConfigError, Interrupted, ProviderUnreachable, StillRunning, Stopped, UsageError

if TYPE_CHECKING:
    from ampd_ray.chain.ranges import Span
    from ampd_ray.client import Client, Job
    from ampd_ray.client.prepare import Prepared
    from ampd_ray.client.request import BackfillRequest, Probe

EXAMPLES = """\b
Examples:
  ampd backfill --rpc http://127.0.0.1:8545 --blocks 0:1000
  ampd backfill --rpc https://eth.example.com --blocks 18M:+1000 --tables blocks,logs
  ampd backfill --rpc https://eth.example.com --blocks -1000: --writers 2
  ampd backfill --rpc https://eth.example.com --blocks 15M:16M --plan     # what it would take, first
\b
Ranges exclude their end: 15M:16M, 15M:+1000 (1,000 blocks), -1000: (the last 1,000), 18_000_000:18_000_100,
18M:latest. The same command again resumes. Ctrl-C commits what is complete and stops.
\b
Exit code: 0 if the range is complete, 1 if it has holes or something failed, 2 if an option is wrong,
130 after Ctrl-C before there was a job, or twice."""

STOP_WITHIN_SECS = 30.0
STOPPED = "stopped; the same command again resumes"


def backfill(
    ctx: typer.Context,
    rpc: Annotated[str, typer.Option("--rpc", help="JSON-RPC address: http(s)://, ws(s):// or ipc://.")],
    blocks: Annotated[
        str, typer.Option("--blocks", help="Block range, its end excluded (unlike deploy's --end-block).")
    ],
    network: Annotated[
        str | None,
        typer.Option("--network", help="Its name; by default found by chain id.", autocompletion=completion.networks),
    ] = None,
    new_network: NewNetworkOption = False,
    tables: Annotated[str | None, typer.Option("--tables", help="Comma list of blocks, transactions, logs.")] = None,
    writers: Annotated[int, typer.Option("--writers", min=1, max=64, help="Files written at a time.")] = 1,
    verify: Annotated[bool, typer.Option("--verify", help="Recompute each block's hash and roots first.")] = False,
    verify_full: Annotated[
        bool, typer.Option("--verify-full", help="The same, with transaction hashes and senders.")
    ] = False,
    priority: PriorityOption = None,
    config: ConfigOption = None,
    amp_dir: AmpDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one last line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what it would take, by a sample; nothing is written.")
    ] = False,
) -> None:
    """Extract a block range into Parquet. On the configured database, else in a solo environment."""
    from ampd_ray.client.prepare import prepare
    from ampd_ray.client.repeated import done_before
    from ampd_ray.client.request import BackfillRequest
    from ampd_ray.datasets.networks import network_name as network_name_of

    wanted = tuple(table.strip() for table in tables.split(",")) if tables else None
    request = BackfillRequest(
        rpc=rpc,
        blocks=blocks,
        network=network,
        tables=wanted,
        writers=writers,
        verify="full" if verify_full else verify,
        priority=priority,
    )
    relative = request.checked().is_relative
    if network is not None:
        network_name(network, new_network)
    if amp_dir is not None and (config or ctx.find_root().obj["config"]):
        raise UsageError("give either --config or --amp-dir: the one is a configured database, the other a solo one")
    found = _probe(request)
    span = request.resolved(found)
    if plan:
        print_plan(ctx, request, found, config, amp_dir, as_json=as_json, quiet=quiet)
        return
    display = Display(sys.stderr, quiet=quiet)
    which = "" if relative else f", {_blocks(span)}"  # an unfinished backfill may have settled what is relative
    display.say(f"{request.network_of(found)} (chain {found.chain_id}), head {found.head.number:,}{which}")
    if network is not None and (known := network_name_of(found.chain_id)) != network and not known.startswith("chain_"):
        display.say(f"chain {found.chain_id} is commonly named {known}; this is kept apart as {network}")
    started = time.monotonic()
    done = done_before(solo_directory(amp_dir), request, found) if is_solo(ctx, config, amp_dir) else None
    if done is not None:
        display.say("resuming: 100 % covered, nothing to do")
        summary, data_dir = done
        summary = replace(summary, seconds=time.monotonic() - started)
        print_summary(summary, summary.blocks, data_dir, as_json=as_json)
        return
    with _open(ctx, config, amp_dir, display) as client:
        prepared = prepare(client, request, found)
        _say_what_is_new(ctx, prepared, span, request, display)
        run, failure = _run(ctx, prepared, display)
        if run is not None:
            summary = replace(run.summary(), seconds=time.monotonic() - started)
            # Before a solo environment takes its time to end.
            print_summary(summary, prepared.covered, client.settings.data_dir, as_json=as_json)
            if summary.quarantined and not as_json:
                print_quarantined(ctx, run, prepared.span, summary.quarantined)
        if failure is not None:
            print_error(failure, as_json=as_json)
    raise typer.Exit(failure.exit_code if failure else int(bool(summary.holes)))


def _probe(request: BackfillRequest) -> Probe:
    """What the provider says of itself; an address that cannot be used is wrong usage."""
    from ampd_ray.client.request import probe

    try:
        with log.sparing("ampd_ray.providers"):  # it fails within seconds, and the error says how often it tried
            return probe(request)
    except ProviderUnreachable as error:
        if re.search(r" at (127\.0\.0\.1|localhost|\[::1\])(:\d+)? refused the connection", error.message) is None:
            raise
        raise ProviderUnreachable(f"{error.message} A chain to try: ampd devnet", **error.details) from None
    except ConfigError as error:
        raise UsageError(f"--rpc: {error.message.removeprefix('provider rpc: ')}") from None


def _say_what_is_new(
    ctx: typer.Context, prepared: Prepared, span: Span, request: BackfillRequest, display: Display
) -> None:
    """What a person would not expect: another range, another revision, blocks that are not verified."""
    if request.checked().is_relative:
        earlier = "" if prepared.span == span else f", which is what {request.blocks} meant when this was started"
        display.say(f"{_blocks(prepared.span)}{earlier}")
    before = prepared.before
    if before is not None and before.start_block != prepared.span.start:
        name = prepared.dataset.dataset
        display.say(
            f"another revision of {name}, with files of its own: it starts at block {prepared.span.start:,}, the one "
            f"before at {before.start_block:,}; that one: {again(ctx, f'datasets show {name}@{before.hash}')}"
        )
    if prepared.covered and request.verify:
        verify = again(ctx, f"verify {prepared.dataset.dataset}")
        display.say(f"what is there already is not verified again; for that: {verify}")


def _open(ctx: typer.Context, config: Path | None, amp_dir: Path | None, display: Display) -> Client:
    """The configured database, else a solo environment that is made on first use."""
    from ampd_ray.client import Client

    return start_solo(amp_dir, display) if is_solo(ctx, config, amp_dir) else Client(configured(ctx, config))


def _run(ctx: typer.Context, prepared: Prepared, display: Display) -> tuple[Job | None, AmpdError | None]:
    """Start the job and watch it to its end; what went wrong, if anything. Ctrl-C stops the job, if there is one."""
    run = None
    try:
        run = prepared.start()
        _watch(ctx, run, prepared, display)
    except KeyboardInterrupt:
        run = run or prepared.active_job()
        return (run, _stop(run, display)) if run else (None, Interrupted("interrupted before there was a job"))
    stopped = Stopped(STOPPED) if run.status() == "STOPPED" else None  # by another command
    return run, run.failure() or stopped


def _watch(ctx: typer.Context, run: Job, prepared: Prepared, display: Display) -> None:
    if run.other_provider is not None:
        display.say(
            f"job {run.id} is at work already with another provider ({run.other_provider}), and goes on with that; "
            f"to use {run.provider}: {again(ctx, f'jobs stop {run.id}')}, then this command again"
        )
    if prepared.covered:
        display.say(f"resuming: {100 * prepared.covered // len(prepared.span)} % covered")
    name = prepared.dataset.dataset
    subject = Subject(run.id, name, prepared.network, prepared.span, prepared.tables, prepared.covered)
    with display.watching(subject) as update:
        run.outcome(on_progress=update)


def _stop(run: Job, display: Display) -> AmpdError | None:
    """Let the job commit what is complete; pressed again, Ctrl-C does not wait for that."""
    display.say("stopping: complete blocks are committed first")
    try:
        run.stop()
        row = run.outcome(STOP_WITHIN_SECS)
    except TimeoutError:
        return StillRunning(
            f"job {run.id} has not stopped within {STOP_WITHIN_SECS:.0f} s; the same command again resumes"
        )
    except KeyboardInterrupt:
        return Interrupted(f"interrupted before job {run.id} had stopped; the same command again resumes")
    return None if row.status == "COMPLETED" else Stopped(STOPPED)


def _blocks(span: Span) -> str:
    return f"blocks {span.start:,} to {span.end:,}"
