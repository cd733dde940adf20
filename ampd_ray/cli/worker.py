"""``ampd worker`` and ``ampd migrate``: one Amp node, and the schema that it needs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from ampd_ray import __version__
from ampd_ray.cli.options import ConfigOption, JsonOption, configured
from ampd_ray.cli.output import print_object
from ampd_ray.errors import UsageError

if TYPE_CHECKING:
    from ampd_ray.config import Settings

WORKER_EXAMPLES = """\b
Examples:
  ampd worker --config amp.toml --node-id worker-1
  ampd worker --config amp.toml --node-id worker-1 --address auto      # on the Ray of this machine
  ampd worker --config amp.toml --every-node --address auto            # one on each stable Ray node of a cluster
  AMP_CONFIG=amp.toml AMP_NODE_ID=worker-1 ampd worker
\b
Exit code: 0 after SIGTERM or SIGINT and a complete drain, 1 on an error or a drain that was cut short, 2 on wrong
usage, 3 if the id is in use."""

MIGRATE_EXAMPLES = """\b
Examples:
  ampd migrate --config amp.toml
  AMP_CONFIG_METADATA_DB_URL=postgresql://me@localhost/amp ampd migrate --config amp.toml
  ampd migrate --config owner.toml --grant amp_worker --grant-read-only amp_reader   # again after each upgrade"""

REACH_WITHIN = timedelta(seconds=5)
NODE_PREFIX = "amp-"


def worker(
    ctx: typer.Context,
    config: ConfigOption = None,
    node_id: Annotated[
        str | None, typer.Option("--node-id", envvar="AMP_NODE_ID", help="The name of this worker; one process each.")
    ] = None,
    every_node: Annotated[
        bool,
        typer.Option(
            "--every-node",
            help="A worker on every Ray node of the cluster that has the resource `amp_node`, also on those that join "
            "later; each is named by --node-prefix and the Ray node.",
        ),
    ] = False,
    node_prefix: Annotated[
        str | None,
        typer.Option("--node-prefix", help=f"What the names of --every-node begin with; {NODE_PREFIX} by default."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="Ray cluster to join, which has to ask for a token; `auto` for the one on this machine; RAY_ADDRESS, "
            "then [ampd_ray] address. "
            "Without any of them the worker starts a Ray of its own.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run an Amp node: take jobs and extract them. Until it is told to stop."""
    from ampd_ray import log

    log.setup()
    settings = configured(ctx, config)
    cluster = address or os.environ.get("RAY_ADDRESS") or settings.ampd_ray.address
    if node_id and every_node:
        raise UsageError("--every-node names each worker by its Ray node: leave out --node-id, and AMP_NODE_ID")
    if not (node_id or every_node):
        raise UsageError("a worker needs a name: give --node-id ID, or set AMP_NODE_ID; or give --every-node")
    if node_prefix is not None and not every_node:
        raise UsageError("--node-prefix is for the names of --every-node: give that, or leave the prefix out")
    with ending_early():
        code = run(settings, node_id, cluster) if node_id else _run_every(settings, node_prefix or NODE_PREFIX, cluster)
    raise typer.Exit(code)


def run(settings: Settings, node_id: str, address: str | None) -> int:
    """Check what can be checked before Ray starts, then run the worker; its exit code."""
    _prepare(settings, node_id, address)
    from ampd_ray.actors.cluster import run_worker

    return run_worker(settings, node_id, {"version": __version__}, address)


def _run_every(settings: Settings, prefix: str, address: str | None) -> int:
    """The same for a worker on every stable Ray node."""
    from ampd_ray.datasets import names

    if address is None:
        raise UsageError("--every-node needs a Ray cluster: give --address HOST:PORT, or auto on a machine of it")
    names.node_id(f"{prefix}0")
    _prepare(settings, None, address)
    from ampd_ray.actors.fleet import run_fleet

    return run_fleet(settings, prefix, {"version": __version__}, address)


def _prepare(settings: Settings, node_id: str | None, address: str | None) -> None:
    from ampd_ray.actors.environment import prepare
    from ampd_ray.node.preflight import preflight

    asyncio.run(preflight(settings, node_id, address))
    prepare(os.environ, local=address is None)


@contextmanager
def ending_early() -> Iterator[None]:
    """SIGTERM or SIGINT before the worker drains by itself: nothing has begun, so what was started ends, with code 0.

    Without this, SIGTERM would end the process and leave its children.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a shell that starts a command in the background has it ignored.
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # Ray's own handler, while it starts, raises the latter
        typer.echo("told to end while starting: nothing was begun", err=True)
        raise typer.Exit(0) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def migrate(
    ctx: typer.Context,
    config: ConfigOption = None,
    workers: Annotated[
        list[str] | None,
        typer.Option(
            "--grant",
            metavar="ROLE",
            help="Let this role do what workers, clients and commands do in the database, and nothing else.",
        ),
    ] = None,
    readers: Annotated[
        list[str] | None,
        typer.Option("--grant-read-only", metavar="ROLE", help="Let this role look at everything and change nothing."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create the database's tables, or update them. Amp's own, where they are, are only checked."""
    from ampd_ray.metadb import schema
    from ampd_ray.metadb.grants import Access

    settings = configured(ctx, config)
    grants = dict.fromkeys(readers or (), Access.READER) | dict.fromkeys(workers or (), Access.WORKER)
    report = asyncio.run(schema.migrate(settings.metadata_db.dsn(), grants=grants, within=REACH_WITHIN))
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    fields = {
        "database": str(report.kind),
        "version": report.version,
        "created": list(report.created),
        "overlaps_refused_by": "the database" if report.exclusion else "queries under the lease lock",
        "granted": {role: str(access) for role, access in grants.items()},
    }
    print_object(fields, as_json=as_json)
