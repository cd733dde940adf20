"""``ampd solo``: a private Postgres, a local Ray, a worker and the retry loop in one process tree."""

from __future__ import annotations

import _thread
import asyncio
import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ampd_ray.cli.options import AmpDirOption, solo_directory
from ampd_ray.cli.worker import ending_early, run

if TYPE_CHECKING:
    from ampd_ray.config import Settings
    from ampd_ray.metadb.embedded import EmbeddedPostgres

_log = logging.getLogger(__name__)

SOLO_EXAMPLES = """\b
Examples:
  ampd solo                       # everything in ./.amp, created on first use
  ampd solo --amp-dir ~/chains
  ampd solo --stop                # ends the one in ./.amp, whoever started it
\b
`ampd backfill` and `amp.local()` start one by themselves, which ends once no session uses it and no job runs in it.
Exit code: 0 after Ctrl-C or SIGTERM and a complete drain, 1 on an error, 3 if one runs in this directory already."""

SOLO_NODE_ID = "worker"


def solo(
    amp_dir: AmpDirOption = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="End the one that runs; its jobs resume in the next. Twice: at once.")
    ] = False,
    until_unused: Annotated[bool, typer.Option("--until-unused", hidden=True)] = False,
) -> None:
    """Run a private Postgres, Ray and a worker in one process tree. With the loop that tries jobs again."""
    from ampd_ray import log
    from ampd_ray.client.solo_lock import only_one

    directory = solo_directory(amp_dir)
    if stop:
        return _stop(directory)
    log.setup()
    with ending_early(), only_one(directory):
        code = _run(directory, until_unused)
    raise typer.Exit(code)


def _stop(directory: Path) -> None:
    from ampd_ray.client.solo import stop

    pid = stop(directory)
    typer.echo(
        f"no solo environment runs in {directory}" if pid is None
        else f"the solo environment in {directory} (process {pid}) has ended; its jobs resume in the next"
    )  # fmt: skip


def _run(directory: Path, until_unused: bool) -> int:
    from ampd_ray.client.solo import with_database
    from ampd_ray.config import create_directories, load_settings
    from ampd_ray.controller.thread import RetryThread
    from ampd_ray.metadb.embedded import EmbeddedPostgres
    from ampd_ray.node.preflight import reach_database

    settings = load_settings(None, os.environ, solo_dir=directory)
    create_directories(settings)
    postgres = EmbeddedPostgres(directory / "metadb") if settings.metadata_db.url is None else None
    try:
        if postgres is not None:
            settings = with_database(settings, postgres.start())
        ends = "ends once no session uses it and no job runs in it" if until_unused else "stop it with Ctrl-C"
        typer.echo(f"solo environment in {directory}; {ends}", err=True)
        asyncio.run(reach_database(settings))
        if until_unused:
            threading.Thread(target=_end_when_unused, args=(directory, settings, postgres), daemon=True).start()
        with RetryThread(settings):
            return run(settings, SOLO_NODE_ID, settings.ampd_ray.address)
    finally:
        if postgres is not None:
            postgres.stop()


def _end_when_unused(directory: Path, settings: Settings, postgres: EmbeddedPostgres | None) -> None:
    """Calls the handler without a signal, since a real one ends the process on the spot while Ray is being started."""
    from ampd_ray.client.solo_lock import Sessions

    Sessions(directory).wait_until_unused(lambda: _at_work(settings, postgres))
    typer.echo("no session uses this environment and no job runs in it: it ends", err=True)
    _thread.interrupt_main(signal.SIGTERM)


def _at_work(settings: Settings, postgres: EmbeddedPostgres | None) -> bool:
    from ampd_ray.metadb import jobs
    from ampd_ray.metadb.connection import Database

    node_id = SOLO_NODE_ID if postgres is None else None  # a configured database has the jobs of others too

    async def asked() -> bool:
        async with Database(settings.metadata_db.dsn(), application_name="ampd-ray/solo").session() as conn:
            return await jobs.at_work(conn, node_id)

    if postgres is not None and not postgres.running():
        return False  # nobody brings it back, so nothing can go on
    try:
        return asyncio.run(asked())
    except Exception as error:  # jobs wait for a configured database however long
        _log.warning("nobody can tell whether jobs run", extra={"error": error})
        return True
