"""The end block of a job, resolved once: ``latest`` and ``-100`` mean the head of the first run (``spec/data.md`` 4.1).

Restarts and retries after an error keep it; whoever asks anew, after the job came to an end, gets the head of then.
"""

from __future__ import annotations

from typing import Final

from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)


async def kept_end(conn: Connection, job_id: int) -> int | None:
    """The end block that an earlier run of the same request resolved; None if there was none."""
    row = await (await conn.execute(_SQL["kept_end"], {"job_id": job_id})).fetchone()
    return row.block if row else None


async def keep_end(conn: Connection, job_id: int, block: int) -> None:
    """Remember what the newest request of the job means."""
    await conn.execute(_SQL["keep_end"], {"job_id": job_id, "block": block})
