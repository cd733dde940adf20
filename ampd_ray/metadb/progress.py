"""Live progress of a job, for the command line and notebooks: ``ampd_ray.job_progress`` (``spec/commit.md`` 2)."""

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
    """How far one run of a job is; all counts are of this run.

    ``blocks_total`` is None while a job follows the head. ``rate`` is blocks per second; ``eta_secs`` the seconds
    left, None where unknown. ``limiting_factor``: ``rpc``, ``cpu``, ``writer``, ``store``, ``db`` or what it waits for.
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


@dataclass(frozen=True, slots=True)
class ReportedProgress:
    """A job's progress as its node last reported it, ``age_secs`` ago by the database's clock."""

    node_id: str
    progress: JobProgress
    updated_at: datetime
    age_secs: float


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
