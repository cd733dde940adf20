"""``ampd worker``, ``ampd migrate`` and ``ampd solo``: the long-running commands and the schema."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from ampd_ray import __version__
from ampd_ray.cli.options import AmpDirOption, ConfigOption, JsonOption, configured, solo_directory
from ampd_ray.cli.output import print_object
from ampd_ray.errors import UsageError

if TYPE_CHECKING:
    from ampd_ray.config import Settings

WORKER_EXAMPLES = """\b
Examples:
  ampd worker --config amp.toml --node-id worker-1
  ampd worker --config amp.toml --node-id worker-1 --address auto      # on the Ray of this machine
  AMP_CONFIG=amp.toml AMP_NODE_ID=worker-1 ampd worker
\b
Exit code: 0 after SIGTERM or SIGINT and a complete drain, 1 on an error, 2 on wrong usage, 3 if the id is in use."""

SOLO_EXAMPLES = """\b
Examples:
  ampd solo                       # everything in ./.amp, created on first use
  ampd solo --amp-dir ~/chains"""

MIGRATE_EXAMPLES = """\b
Examples:
  ampd migrate --config amp.toml
  AMP_CONFIG_METADATA_DB_URL=postgresql://me@localhost/amp ampd migrate --config amp.toml"""

SOLO_NODE_ID = "worker"


def worker(
    ctx: typer.Context,
    config: ConfigOption = None,
    node_id: Annotated[
        str | None, typer.Option("--node-id", envvar="AMP_NODE_ID", help="The name of this worker; one process each.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="Ray cluster to join, `auto` for the one on this machine; RAY_ADDRESS, then [ampd_ray] address. "
            "Without any of them the worker starts a Ray of its own.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Register with the metadata database, take jobs and extract them, until told to stop."""
    settings = configured(ctx, config)
    if not node_id:
        raise UsageError("a worker needs a name: give --node-id ID, or set AMP_NODE_ID")
    raise typer.Exit(run(settings, node_id, address or os.environ.get("RAY_ADDRESS") or settings.ampd_ray.address))


def run(settings: Settings, node_id: str, address: str | None) -> int:
    """Check what can be checked before Ray starts, then run the worker; its exit code."""
    from ampd_ray import log
    from ampd_ray.actors.environment import prepare
    from ampd_ray.config import check_directories
    from ampd_ray.datasets import names

    log.setup()
    names.node_id(node_id)
    check_directories(settings)
    _reach_database(settings)
    prepare(os.environ, local=address is None)
    from ampd_ray.actors.cluster import run_worker

    return run_worker(settings, node_id, {"version": __version__}, address)


def migrate(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Create the metadata database's tables, or bring ours up to date; Amp's own tables are only checked."""
    import asyncio

    from ampd_ray.metadb import schema

    settings = configured(ctx, config)
    report = asyncio.run(schema.migrate(settings.metadata_db.dsn()))
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    fields = {
        "database": str(report.kind),
        "version": report.version,
        "created": list(report.created),
        "overlaps_refused_by": "the database" if report.exclusion else "queries under the lease lock",
    }
    print_object(fields, as_json=as_json)


def solo(
    amp_dir: AmpDirOption = None,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
) -> None:
    """Run a private Postgres, a local Ray, a worker and the retry loop in one process tree."""
    from ampd_ray import log
    from ampd_ray.client.solo import with_database
    from ampd_ray.config import create_directories, load_settings
    from ampd_ray.controller.thread import RetryThread
    from ampd_ray.metadb.embedded import EmbeddedPostgres

    log.setup()
    directory = solo_directory(amp_dir)
    settings = load_settings(None, os.environ, solo_dir=directory)
    create_directories(settings)
    postgres = None
    if settings.metadata_db.url is None:
        postgres = EmbeddedPostgres(directory / "metadb")
        settings = with_database(settings, postgres.start())
    if until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        typer.echo(f"solo environment in {directory}; stop it with Ctrl-C", err=True)
        _reach_database(settings)
        with RetryThread(settings):
            code = run(settings, SOLO_NODE_ID, settings.ampd_ray.address)
    finally:
        if postgres is not None:
            postgres.stop()
    raise typer.Exit(code)


def _end_with_stdin() -> None:
    """The parent holds the other end of our standard input: when it is gone, so is the reason to run."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _reach_database(settings: Settings) -> None:
    """Fail within seconds, not after Ray has started, if the database cannot be used at all."""
    import asyncio

    from ampd_ray.metadb import schema

    asyncio.run(schema.ensure(settings.metadata_db.dsn(), settings.metadata_db.auto_migrate))
