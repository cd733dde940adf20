"""Jobs of dead or drained nodes change hands (``spec/metadata-db.md`` 7.6, ``commit.md`` 6).

This module looks and does; what to do is decided by its caller, who is asked again once everything is locked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from ampd_ray import failpoints
from ampd_ray.metadb import leases
from ampd_ray.metadb.connection import Connection, Database, Limits
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.retries import record_failure
from ampd_ray.metadb.statuses import ACTIVE, TERMINAL, JobStatus

_SQL: Final = load(__file__)
# A commit of the old node may hold the leases: the next look is a second away.
_LIMITS: Final = Limits(statement=timedelta(seconds=5), lock=timedelta(milliseconds=500))


@dataclass(frozen=True, slots=True)
class Taker:
    """The process that takes over; its leases live for ``ttl`` until its job renews them."""

    node_id: str
    incarnation: UUID
    ttl: timedelta


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open job of another node, and what decides whether it changes hands, all by the database's clock.

    ``silent``: no beat within 5 s. ``expired``: the node lease has run out; with ``draining`` it was released.
    ``lapsed``: nobody holds a lease of the job. ``fruitless``: take-overs since it was scheduled, within 10 minutes,
    after which nothing was committed.
    """

    job_id: int
    node_id: str
    written: str
    implementation: str | None
    failover_group: str | None
    silent: bool
    expired: bool
    draining: bool
    lapsed: bool
    fruitless: int

    @property
    def status(self) -> JobStatus:
        """The job's status."""
        return JobStatus.read(self.written)


@dataclass(frozen=True, slots=True)
class Move:
    """A status to write, with the detail of its event; ERROR and FATAL keep it in the status row too."""

    status: JobStatus
    detail: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The run counts as failed, and is tried again after a while (``retries.record_failure``)."""

    code: str
    handling: str
    spread: float
    longest: timedelta


@dataclass(frozen=True, slots=True)
class Claim:
    """What a take-over writes, in order."""

    moves: tuple[Move, ...]
    failure: Failure | None = None


Decide = Callable[[Candidate, int], Claim | None]
"""From a candidate and the new epoch of its leases (0 if it has none) to the claim; None: leave it."""


async def candidates(conn: Connection, taker: Taker) -> list[Candidate]:
    """The open jobs of other nodes whose node lease has run out, by id; most of them are not for us."""
    return await _look(conn, taker, None)


async def claim(db: Database, job_id: int, taker: Taker, decide: Decide) -> Claim | None:
    """Take one job over in one transaction; None, and nothing changed, if ``decide`` or the rows say no.

    Leases first, so that the old node can commit no more; then the status row, unless somebody holds it; then
    ``decide`` on the facts of now. Raises DatabaseUnavailable when a lease is held by a commit under way.
    """
    try:
        async with db.transaction(_LIMITS) as conn:
            return await _claim(conn, job_id, taker, decide)
    except _LeftAloneError:
        return None


class _LeftAloneError(Exception):
    """The job is not for us after all: roll back."""


async def _claim(conn: Connection, job_id: int, taker: Taker, decide: Decide) -> Claim:
    epoch = await _take_leases(conn, job_id, taker)
    made = decide(await _lock(conn, job_id, taker), epoch)
    if made is None:
        raise _LeftAloneError
    await _write(conn, job_id, taker, made)
    await failpoints.reach("takeover-claiming")
    return made


async def _look(conn: Connection, taker: Taker, job_id: int | None) -> list[Candidate]:
    values = {**_identity(taker), "job_id": job_id, "active": sorted(ACTIVE)}
    async with conn.cursor(row_factory=class_row(Candidate)) as cursor:
        return await (await cursor.execute(_SQL["candidates"], values)).fetchall()


async def _take_leases(conn: Connection, job_id: int, taker: Taker) -> int:
    """The highest new epoch. Whoever still holds a lease keeps the job."""
    locked = await (await conn.execute(_SQL["lock_leases"], {"job_id": job_id})).fetchall()
    if any(row.held for row in locked):
        raise _LeftAloneError
    values = {**_identity(taker), "job_id": job_id, "ttl": taker.ttl}
    taken = await (await conn.execute(_SQL["take_leases"], values)).fetchall()
    return max((int(row.epoch) for row in taken), default=0)


async def _lock(conn: Connection, job_id: int, taker: Taker) -> Candidate:
    locked = await (await conn.execute(_SQL["lock_status"], {"job_id": job_id})).fetchone()
    fit = await (await conn.execute(_SQL["is_fit"], _identity(taker))).fetchone()
    found = await _look(conn, taker, job_id)
    if not (locked and fit and fit.fit and found):
        raise _LeftAloneError
    return found[0]


async def _write(conn: Connection, job_id: int, taker: Taker, made: Claim) -> None:
    for move in made.moves:
        detail = None if move.detail is None else Jsonb(move.detail)
        kept = detail if move.status in (JobStatus.ERROR, JobStatus.FATAL) else None
        values = {"job_id": job_id, "node_id": taker.node_id, "status": move.status.value}
        await conn.execute(_SQL["move"], {**values, "status_detail": kept})
        await conn.execute(_SQL["record"], {**values, "detail": detail})
    if made.moves[-1].status in TERMINAL:
        await leases.release(conn, taker.incarnation, job_id)
    if (failure := made.failure) is not None:
        await record_failure(conn, job_id, **asdict(failure))


def _identity(taker: Taker) -> dict[str, Any]:
    return {"node_id": taker.node_id, "incarnation": taker.incarnation}
