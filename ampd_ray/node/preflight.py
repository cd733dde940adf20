"""What can be known before a worker starts Ray, so that a wrong set-up ends in seconds and with one clear error.

The coordinator looks at all of it again: a check is no lock, and things change while Ray starts.
"""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import timedelta
from typing import Final

from ampd_ray.config import Settings, check_directories
from ampd_ray.datasets import names
from ampd_ray.errors import RayUnavailable
from ampd_ray.metadb import schema, workers
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.node.identity import in_use
from ampd_ray.store.files import open_store, reach

_log: Final = logging.getLogger(__name__)

SAY_EVERY: Final = timedelta(seconds=15)
ASK_EVERY: Final = timedelta(seconds=1)
KNOCK_WITHIN: Final = timedelta(seconds=5)


async def preflight(settings: Settings, node_id: str | None, ray_address: str | None = None) -> None:
    """Check the Node ID, the directories, the Ray to join, the database, and that nobody else runs the node.

    Without a Node ID, for a worker that gets several, what does not depend on it.

    Raises what is wrong: InvalidName, ConfigError, StoreError, RayUnavailable, DatabaseUnavailable, NotUtc,
    SchemaMismatch, NodeInUse.
    """
    if node_id is not None:
        names.node_id(node_id)
    check_directories(settings)
    if ray_address is not None:
        await reach_ray(ray_address)
    await reach_stores(settings)
    for warning in (await reach_database(settings)).warnings:
        _log.warning(warning)
    if node_id is None:
        return
    async with Database(settings.metadata_db.dsn(), application_name="ampd-ray/check").session() as conn:
        await _until_free(conn, node_id, timedelta(seconds=settings.ampd_ray.node_lock_timeout_secs))


async def reach_stores(settings: Settings) -> None:
    """Write to the data directory, and ask the two others, which may be a URL with a typo. Raises StoreError."""
    await asyncio.to_thread(open_store(settings.data_dir).probe)
    for directory in (settings.manifests_dir, settings.providers_dir):
        await asyncio.to_thread(reach, directory)


async def reach_database(settings: Settings) -> schema.MigrateReport:
    """Wait for a database that is coming up, as long as the settings say, and hold its schema against ours."""
    database = settings.metadata_db
    within = timedelta(seconds=settings.ampd_ray.connect_timeout_secs)
    return await schema.ensure(database.dsn(), database.auto_migrate, within=within)


async def reach_ray(address: str) -> None:
    """Knock at a cluster's door; Ray itself would for minutes, and finds ``auto`` alone. Raises RayUnavailable."""
    if address == "auto":
        return
    found = re.fullmatch(r"\[?([^/\[\]]+)\]?:(\d{1,5})", address)
    if not found or "://" in address:
        raise RayUnavailable(
            f"{address!r} is not the address of a Ray cluster that a worker can join: give host:port of its head "
            "(6379, not the client port), or auto on a machine of the cluster"
        )
    try:
        async with asyncio.timeout(KNOCK_WITHIN.total_seconds()):
            _, writer = await asyncio.open_connection(found[1], int(found[2]))
    except (OSError, OverflowError, TimeoutError) as error:
        raise RayUnavailable(
            f"no Ray cluster answers at {address} ({type(error).__name__}). Start one with `ray start --head`, or "
            "leave out --address (and RAY_ADDRESS) to do without."
        ) from error
    writer.close()


async def _until_free(conn: Connection, node_id: str, patience: timedelta) -> None:
    """Wait for the lock of a process that is just ending; the lock itself is the coordinator's to take."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience.total_seconds()
    say_at = loop.time()
    while (holder := await workers.holder(conn, node_id)) is not None:
        await workers.end_dead_session(conn, node_id, holder)
        left = deadline - loop.time()
        if left <= 0:
            raise in_use(node_id, patience)
        if loop.time() >= say_at:
            say_at += SAY_EVERY.total_seconds()
            _log.warning("the node id is in use; asking again", extra={"node_id": node_id, "for_secs": round(left)})
        await asyncio.sleep(min(left, ASK_EVERY.total_seconds()))
