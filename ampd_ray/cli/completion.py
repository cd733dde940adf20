"""Values that a shell completes: names of what is there, from a database that runs already.

Quick, and silent: whatever goes wrong, there is nothing to complete. Nothing is started for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ampd_ray.config import Settings

Choices = list[tuple[str, str]]
"""Values, each with a word on it for shells that show one."""

WITHIN_SECS = 0.3
STORE_WITHIN_SECS = 1.0  # most of it to import its client, if it is an object store


def datasets(ctx: typer.Context, incomplete: str) -> Choices:
    """``namespace/name`` of the registered ones."""

    async def ask(conn: Any) -> Choices:
        from ampd_ray.metadb.datasets import list_datasets

        return [(f"{row.namespace}/{row.name}", "") for row in await list_datasets(conn)]

    return _starting_with(incomplete, _asked(ctx, ask))


def tables(ctx: typer.Context, incomplete: str) -> Choices:
    """``namespace/name.table`` of the registered datasets."""
    from ampd_ray.datasets.tables import TABLES

    return [
        (f"{dataset}.{table}", "") for dataset, _ in datasets(ctx, incomplete.partition(".")[0]) for table in TABLES
    ]


def jobs(ctx: typer.Context, incomplete: str) -> Choices:
    """Ids of jobs, the newest first."""

    async def ask(conn: Any) -> Choices:
        from ampd_ray.metadb.jobs import list_jobs

        return [(str(row.job_id), str(row.status)) for row in reversed(await list_jobs(conn))]

    return _starting_with(incomplete, _asked(ctx, ask))


def providers(ctx: typer.Context, incomplete: str) -> Choices:
    """Names of provider files, usable or not."""
    found: list[str] = []

    def look() -> None:
        with suppress(Exception), _no_logs():
            from ampd_ray.store.files import open_store

            found.extend(each.name for each in open_store(_settings(ctx).providers_dir).objects(""))

    looking = Thread(target=look, daemon=True)  # an object store may be away, and nobody waits for it
    looking.start()
    looking.join(STORE_WITHIN_SECS)
    names = sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml") and name[0] != ".")
    return _starting_with(incomplete, [(name, "") for name in names])


def networks(incomplete: str) -> Choices:
    """Networks that people name."""
    from ampd_ray.datasets.networks import CHAIN_IDS

    return _starting_with(incomplete, [(name, f"chain {chain_id}") for name, chain_id in CHAIN_IDS.items()])


def _starting_with(incomplete: str, choices: Choices) -> Choices:
    return [choice for choice in choices if choice[0].startswith(incomplete)]


def _asked(ctx: typer.Context, ask: Callable[[Any], Awaitable[Choices]]) -> Choices:
    with suppress(Exception), _no_logs():
        from ampd_ray.metadb.connection import Database
        from ampd_ray.metadb.embedded import EmbeddedPostgres

        settings = _settings(ctx)
        solo = None if settings.metadata_db.url else EmbeddedPostgres.running_dsn(_solo_directory(ctx) / "metadb")
        database = Database(solo or settings.metadata_db.dsn(), application_name="ampd-ray/completion")

        async def answer() -> Choices:
            async with asyncio.timeout(WITHIN_SECS), database.session() as conn:
                return await ask(conn)

        return asyncio.run(answer())
    return []


@contextmanager
def _no_logs() -> Iterator[None]:
    """The terminal is that of a person who types something else."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def _settings(ctx: typer.Context) -> Settings:
    """Those of the command that is being typed: its options so far, else what the environment says."""
    from ampd_ray.config import load_settings

    given = ctx.params.get("config") or ctx.find_root().params.get("config") or os.environ.get("AMP_CONFIG")
    if given and not ctx.params.get("amp_dir"):
        return load_settings(Path(given), os.environ)
    return load_settings(None, os.environ, solo_dir=_solo_directory(ctx))


def _solo_directory(ctx: typer.Context) -> Path:
    from ampd_ray.cli.options import solo_directory

    return solo_directory(ctx.params.get("amp_dir"))
