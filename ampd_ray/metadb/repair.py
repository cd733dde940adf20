"""Mend rows that follow from others: the segment index, cached footers, queues. Files and their rows never change."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ampd_ray.metadb import sweep
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.segment_index import Entry, reindex

_SQL: Final = load(__file__)


async def mend_index(db: Database, location_id: int, entries: Collection[Entry], canonical: Collection[int]) -> None:
    """Write ``entries`` anew, drop segments without a file, and flag all by the canonical chain.

    ``canonical``: files on the chain that must not be collected. One transaction under the lease row, which waits a
    moment for a commit that is under way.
    """
    async with db.transaction() as conn:
        await conn.execute(_SQL["lock_lease"], {"location_id": location_id})
        await reindex(conn, location_id, entries)
        await sweep.unqueue(conn, canonical)


async def put_footer(conn: Connection, file_id: int, footer: bytes) -> None:
    """Cache a file's footer, whatever was there."""
    await conn.execute(_SQL["put_footer"], {"file_id": file_id, "footer": footer})


async def revoke_tombstone(conn: Connection, url: str) -> None:
    """Forget to delete the object of a file that is registered."""
    await conn.execute(_SQL["revoke_tombstone"], {"url": url})
