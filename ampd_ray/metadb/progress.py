"""Live progress of a job, for the command line and notebooks: ``ampd_ray.job_progress`` (``spec/commit.md`` 2).

Beside it ``ampd_ray.job_rate``: how fast it was over time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Final

from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far one run of a job is.

    ``blocks_done`` of ``blocks_total`` are committed, by earlier runs too, or in an open file; blocks that are set
    aside are not among them. ``blocks_total`` is None while a job follows the head. ``rows`` are in such files as well;
    they and all other counts are of this run. ``rate`` is blocks per second over the last ten, ``rows_rate`` and
    ``requests_rate`` are of what was fetched in them; ``eta_secs`` the seconds left, None where unknown.
    ``limiting_factor``: ``rpc``, ``cpu``, ``writer`` or what it waits for.
    """

    phase: str
    blocks_done: int = 0
    blocks_total: int | None = None
    rows: int = 0
    bytes: int = 0
    rpc_requests: int = 0
    retries: int = 0
    rate: float | None = None
    limiting_factor: str | None = None
    eta_secs: float | None = None
    rows_by_table: Mapping[str, int] = field(default_factory=dict)
    rows_rate: float | None = None
    requests_rate: float | None = None


@dataclass(frozen=True, slots=True)
class ReportedProgress:
    """A job's progress as its node last reported it, ``age_secs`` ago by the database's clock."""

    node_id: str
    progress: JobProgress
    updated_at: datetime
    age_secs: float


@dataclass(frozen=True, slots=True)
class JobRate:
    """What a job did in ``secs`` seconds: blocks put into files, rows and requests fetched.

    ``limiting_factor`` is what held it back for most of them. ``at`` is their end, by the database's clock.
    """

    secs: float
    blocks: int
    rows: int
    requests: int
    limiting_factor: str | None = None
    at: datetime | None = None


async def report(conn: Connection, job_id: int, node_id: str, progress: JobProgress) -> None:
    """Replace what is shown for the job."""
    values = asdict(progress) | {"rows_by_table": json.dumps(dict(progress.rows_by_table))}
    await conn.execute(_SQL["report"], values | {"job_id": job_id, "node_id": node_id})


async def read(conn: Connection, job_id: int) -> ReportedProgress | None:
    """What was last reported for the job, None if nothing was."""
    row = await (await conn.execute(_SQL["progress"], {"job_id": job_id})).fetchone()
    if row is None:
        return None
    names = JobProgress.__dataclass_fields__
    progress = JobProgress(**{name: getattr(row, name) for name in names})
    return ReportedProgress(row.node_id, progress, row.updated_at, row.age_secs)


async def record_rate(conn: Connection, job_id: int, node_id: str, rate: JobRate) -> None:
    """Keep what the job did in the seconds up to now; ``at`` is the database's to say."""
    await conn.execute(_SQL["record_rate"], asdict(rate) | {"job_id": job_id, "node_id": node_id})


async def recorded(conn: Connection, job_id: int) -> tuple[float, int]:
    """Since how many seconds rates of the job are recorded, by its earlier runs too, and how many; zeros if none is."""
    row = await (await conn.execute(_SQL["recorded"], {"job_id": job_id})).fetchone()
    return (float(row.secs or 0.0), int(row.samples)) if row is not None else (0.0, 0)


async def history(conn: Connection, job_id: int) -> list[JobRate]:
    """How fast the job was, by all of its runs, oldest first."""
    rows = await (await conn.execute(_SQL["history"], {"job_id": job_id})).fetchall()
    return [JobRate(**row._asdict()) for row in rows]


async def forget_deleted_jobs(conn: Connection) -> None:
    """Drop what is known of jobs that are gone; nothing refers to them by a foreign key."""
    for statement in ("forget_progress", "forget_rates"):
        await conn.execute(_SQL[statement])
