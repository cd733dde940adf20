"""How often a job has failed in a row, and when to try it again (``spec/metadata-db.md`` 5.8, 7.4).

Amp counts SCHEDULED events for this, for ever; ours are counted in ``ampd_ray.job_state`` and forgotten as soon as a
segment is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.statuses import ACTIVE, RETRY_DELAY_MAX, retry_delay

_SQL: Final = load(__file__)

AT_WORK_WITHIN: Final = timedelta(minutes=1)
RETRY_LATE: Final = timedelta(seconds=10)
"""Past its time by so much, nobody tries a failed job again: it has failed too often."""


@dataclass(frozen=True, slots=True)
class DueRetry:
    """A job in ERROR that should be tried again now; ``node_id`` had it last."""

    job_id: int
    node_id: str
    failures: int


async def record_failure(
    conn: Connection,
    job_id: int,
    *,
    code: str,
    handling: str,
    spread: float,
    longest: timedelta = RETRY_DELAY_MAX,
) -> int:
    """Count a failed run and plan the next; failed runs in a row, this one included.

    ``spread``, drawn from 0.8 to 1.2, keeps jobs that failed together from coming back together.
    """
    async with conn.transaction():
        values = {"job_id": job_id, "code": code, "handling": handling}
        row = await (await conn.execute(_SQL["record_failure"], values)).fetchone()
        assert row is not None
        delay = retry_delay(row.failures, spread, longest)
        await conn.execute(_SQL["plan_retry"], {"job_id": job_id, "delay": delay})
    return int(row.failures)


async def record_progress(conn: Connection, job_id: int) -> None:
    """A segment of the job was committed: forget its failures."""
    await conn.execute(_SQL["record_progress"], {"job_id": job_id})


async def failures(conn: Connection, job_id: int) -> int:
    """Failed runs in a row so far."""
    row = await (await conn.execute(_SQL["failures"], {"job_id": job_id})).fetchone()
    return int(row.failures) if row else 0


async def at_work(conn: Connection, node_id: str | None = None) -> bool:
    """Whether any job (of this node) has not ended, or has failed and is tried again within a minute or so."""
    active = [status.value for status in ACTIVE]
    values = {"node_id": node_id, "active": active, "soon": AT_WORK_WITHIN, "late": RETRY_LATE}
    row = await (await conn.execute(_SQL["at_work"], values)).fetchone()
    return bool(row and row.at_work)


async def retry_due(conn: Connection) -> list[DueRetry]:
    """The jobs in ERROR whose time has come, in id order."""
    rows = await (await conn.execute(_SQL["retry_due"])).fetchall()
    return [
        DueRetry(row.job_id, row.node_id, row.failures)
        for row in rows
        if row.planned or row.waited >= retry_delay(row.failures, 1.0)
    ]
