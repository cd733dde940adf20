"""``ampd solo``: a private Postgres, a local Ray, a worker and the retry loop in one process tree."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from ampd_ray.cli.options import AmpDirOption, solo_directory
from ampd_ray.cli.worker import ending_early, run

SOLO_EXAMPLES = """\b
Examples:
  ampd solo                       # everything in ./.amp, created on first use
  ampd solo --amp-dir ~/chains
\b
Exit code: 0 after Ctrl-C or SIGTERM and a complete drain, 1 on an error, 3 if one runs in this directory already."""

SOLO_NODE_ID = "worker"
STDIN = 0


def solo(
    amp_dir: AmpDirOption = None,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
) -> None:
    """Run a private Postgres, a local Ray, a worker and the retry loop in one process tree."""
    from ampd_ray import log
    from ampd_ray.client.solo_lock import only_one

    log.setup()
    directory = solo_directory(amp_dir)
    with ending_early(), only_one(directory):
        if until_stdin_closes:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        code = _run(directory)
    raise typer.Exit(code)


def _run(directory: Path) -> int:
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
        typer.echo(f"solo environment in {directory}; stop it with Ctrl-C", err=True)
        asyncio.run(reach_database(settings))
        with RetryThread(settings):
            return run(settings, SOLO_NODE_ID, settings.ampd_ray.address)
    finally:
        if postgres is not None:
            postgres.stop()


def _end_with_stdin() -> None:
    """The parent holds the other end of our standard input: when it is gone, so is the reason to run.

    Reads the bare descriptor, since Python cannot end while a thread holds the lock of ``sys.stdin``. Calls the
    handler without a signal, since a real one ends the process on the spot while Ray is being started.
    """
    while os.read(STDIN, 4096):
        pass
    _thread.interrupt_main(signal.SIGTERM)
