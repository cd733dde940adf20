"""What may be deleted: files that a superseded epoch announced, and files that were replaced (``spec/commit.md`` 7).

Each statement checks by itself that the revision is still at the epoch under which the caller sweeps, and touches
intents of lower epochs only: epochs only rise, so those can never be committed. The verbs here change rows; the
caller deletes the objects in between, in the order that a crash at any point leaves something to finish by.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ampd_ray.datasets import names
from ampd_ray.errors import InvalidName
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.statuses import TERMINAL

_SQL: Final = load(__file__)
_log: Final = logging.getLogger(__name__)

LOOK_AGAIN_AFTER: Final = timedelta(hours=1)
FORGET_AFTER: Final = timedelta(hours=24)
IDLE_FOR: Final = timedelta(seconds=10)
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Superseded:
    """An announced file that can be committed no more; ``swept``: its object was deleted before."""

    file_name: str
    epoch: int
    swept: bool


@dataclass(frozen=True, slots=True)
class IdleRevision:
    """A revision that nobody holds, at the epoch of its last holder; ``path`` is relative to the data directory."""

    location_id: int
    epoch: int
    path: str


async def superseded(
    conn: Connection, location_id: int, epoch: int, *, after: str = "", again_after: timedelta | None = None
) -> list[Superseded]:
    """The next page of files announced below ``epoch`` whose objects are to be deleted, by name after ``after``.

    Empty if the revision is not at ``epoch`` any more. Files swept longer ago than ``again_after`` come again; with
    None those never swept only.
    """
    values = {
        "location_id": location_id,
        "epoch": epoch,
        "after": after,
        "again_after": again_after,
        "limit": PAGE,
    }
    rows = await (await conn.execute(_SQL["superseded"], values)).fetchall()
    return [Superseded(row.file_name, row.epoch, row.swept) for row in rows]


async def mark_swept(
    conn: Connection,
    location_id: int,
    epoch: int,
    names: Collection[str],
    forget_after: timedelta = FORGET_AFTER,
) -> None:
    """The objects of superseded files are gone; those that were swept first ``forget_after`` ago are forgotten."""
    values = {"location_id": location_id, "epoch": epoch, "names": list(names), "forget_after": forget_after}
    await conn.execute(_SQL["forget_swept"], values)
    await conn.execute(_SQL["mark_swept"], values)


async def drop_fulfilled(conn: Connection, location_id: int, epoch: int) -> None:
    """Forget intents of lower epochs whose files are registered."""
    await conn.execute(_SQL["drop_fulfilled"], {"location_id": location_id, "epoch": epoch})


async def queue(conn: Connection, file_ids: Collection[int], after: timedelta) -> None:
    """Have replaced files collected after ``after`` (at least a second), when nobody reads them any more."""
    await conn.execute(_SQL["queue"], {"file_ids": list(file_ids), "after": after})


async def unqueue(conn: Connection, file_ids: Collection[int]) -> None:
    """Files that are on the chain (again) stay."""
    await conn.execute(_SQL["unqueue"], {"file_ids": list(file_ids)})


async def buried(conn: Connection, names: Collection[tuple[int, str]]) -> str | None:
    """The URL of one of these files, given by revision and name, whose object is about to be deleted."""
    values = {"location_ids": [at for at, _ in names], "names": [name for _, name in names]}
    row = await (await conn.execute(_SQL["buried"], values)).fetchone()
    return row.url if row else None


async def collect(db: Database, location_id: int, epoch: int) -> list[int]:
    """Unregister a page of replaced files whose time has come, leaving a tombstone for each; their ids.

    One transaction under the lease row, so that no commit puts one of them back on the chain meanwhile. Nothing
    happens while the revision is not at ``epoch``, or is being committed to.
    """
    at = {"location_id": location_id, "epoch": epoch, "limit": PAGE}
    async with db.transaction() as conn:
        if await (await conn.execute(_SQL["lock_lease"], at)).fetchone() is None:
            return []
        rows = await (await conn.execute(_SQL["expired"], at)).fetchall()
        gone = {"file_ids": [row.file_id for row in rows], "location_id": location_id}
        for step in ("bury", "unregister", "unindex") if rows else ():
            await conn.execute(_SQL[step], gone)
    return [row.file_id for row in rows]


async def tombstones(conn: Connection, location_id: int, after: str = "") -> list[str]:
    """The next page of URLs whose objects are to be deleted, after ``after``."""
    values = {"location_id": location_id, "after": after, "limit": PAGE}
    return [row.url for row in await (await conn.execute(_SQL["tombstones"], values)).fetchall()]


async def drop_tombstones(conn: Connection, urls: Collection[str]) -> None:
    """The objects are deleted."""
    await conn.execute(_SQL["drop_tombstones"], {"urls": list(urls)})


async def idle(conn: Connection, failover_group: str, idle_for: timedelta = IDLE_FOR) -> list[IdleRevision]:
    """The revisions of a fail-over group, which shares a data directory, that nobody holds and that need a sweep."""
    values = {"failover_group": failover_group, "idle_for": idle_for}
    found = []
    for row in await (await conn.execute(_SQL["idle"], values)).fetchall():
        try:
            found.append(IdleRevision(row.location_id, row.epoch, names.directory(row.path)))
        except InvalidName as error:  # which others need not wait for
            _log.warning("revision %s is not swept: %s", row.location_id, error)
    return found


async def supersede(conn: Connection, location_id: int, epoch: int) -> int:
    """The epoch under which to sweep a revision that nobody holds: a new one if its ended job left files behind."""
    values = {"location_id": location_id, "epoch": epoch, "terminal": sorted(TERMINAL)}
    row = await (await conn.execute(_SQL["supersede"], values)).fetchone()
    return int(row.epoch) if row else epoch


async def forget_deleted_revisions(conn: Connection) -> None:
    """Drop our rows about revisions that are gone; nothing refers to them by a foreign key."""
    for statement in ("forget_segments", "forget_intents", "forget_leases"):
        await conn.execute(_SQL[statement])
