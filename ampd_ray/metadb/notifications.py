"""NOTIFY and LISTEN: hints that rows have changed, never more (``spec/metadata-db.md`` 3).

``listen`` heals itself: a session of its own, a bounded wait, a probe, and a new session whenever the old one does
not answer. What was sent in between is lost, hence ``Reconnected``, after which the caller reads the rows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from uuid import uuid4

import psycopg
from psycopg import sql

from ampd_ray.errors import AmpdError, DatabaseUnavailable
from ampd_ray.metadb.connection import Connection, Database, bounded
from ampd_ray.metadb.queries import load

JOB_ACTIONS: Final = "job_actions"
CHANGE_TRACKING: Final = "change-tracking"

PROBE_EVERY: Final = timedelta(seconds=5)
PROBE_WITHIN: Final = timedelta(seconds=2)
RECONNECT_FIRST: Final = timedelta(milliseconds=100)
RECONNECT_LAST: Final = timedelta(seconds=5)

_SQL: Final = load(__file__)
_LARGEST_ID: Final = 2**63 - 1
_log: Final = logging.getLogger(__name__)


class Action(StrEnum):
    """What a controller hints at."""

    START = "START"
    STOP = "STOP"


@dataclass(frozen=True, slots=True)
class JobAction:
    """A hint to a node that the rows of a job have changed."""

    node_id: str
    job_id: int
    action: Action


@dataclass(frozen=True, slots=True)
class Notification:
    """What was received; any database role may have sent it."""

    channel: str
    payload: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """We listen (again), on the ``session``-th session: read the rows now, for hints may have been lost."""

    session: int


def job_action_payload(node_id: str, job_id: int, action: Action) -> str:
    """The payload of ``job_actions`` exactly as Amp's workers need it: anything else crashes them."""
    envelope = {"node_id": node_id, "payload": {"job_id": job_id, "action": action.value}}
    return json.dumps(envelope, separators=(",", ":"), ensure_ascii=False)


def parse_job_action(payload: str) -> JobAction | None:
    """The hint in a payload of ``job_actions``, or None for anything malformed. Unknown fields are accepted."""
    try:
        envelope = json.loads(payload)
        node_id, inner = envelope["node_id"], envelope["payload"]
        job_id, action = inner["job_id"], Action(inner["action"].upper())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    whole = isinstance(job_id, int) and not isinstance(job_id, bool)
    if not isinstance(node_id, str) or not whole or not 0 < job_id <= _LARGEST_ID:
        return None
    return JobAction(node_id, job_id, action)


async def notify(conn: Connection, channel: str, payload: str) -> None:
    """Send ``payload`` (shorter than 8000 bytes) when the transaction of ``conn`` commits."""
    await conn.execute(_SQL["notify"], {"channel": channel, "payload": payload})


async def notify_job(conn: Connection, node_id: str, job_id: int, action: Action) -> None:
    """Hint to ``node_id`` that it shall look at a job, when the transaction of ``conn`` commits."""
    await notify(conn, JOB_ACTIONS, job_action_payload(node_id, job_id, action))


async def listen(
    connect: Callable[[], Awaitable[Connection]],
    channel: str,
    *,
    probe_every: timedelta = PROBE_EVERY,
    probe_within: timedelta = PROBE_WITHIN,
) -> AsyncGenerator[Notification | Reconnected]:
    """Everything sent on ``channel``, for ever, with a ``Reconnected`` after each LISTEN, the first included.

    ``connect`` gives a dedicated autocommit session (``Database.connect_session``). Trouble with the database is
    logged and outlived; only the caller ends this, by ``aclose`` or cancellation.
    """
    sessions, failures = 0, 0
    while True:
        conn: Connection | None = None
        try:
            conn = await connect()
            await bounded(conn, _listen(conn, channel), probe_within)
            sessions, failures = sessions + 1, 0
            yield Reconnected(sessions)
            while True:
                async with aclosing(conn.notifies(timeout=probe_every.total_seconds())) as received:
                    async for message in received:
                        yield Notification(message.channel, message.payload)
                await bounded(conn, _probe(conn), probe_within)
        except (psycopg.Error, AmpdError, OSError) as error:
            failures += 1
            _log.warning("listener on %s lost its session (%s); connecting again", channel, error)
        finally:
            if conn is not None:
                await conn.close()
        await asyncio.sleep(reconnect_delay(failures, random.random()).total_seconds())  # noqa: S311


def reconnect_delay(failures: int, chance: float) -> timedelta:
    """The pause before the next attempt, 0.1 s to 5 s; ``chance`` is drawn from 0 to 1."""
    ceiling = min(RECONNECT_LAST, RECONNECT_FIRST * (1 << min(failures, 10)))
    return RECONNECT_FIRST + (ceiling - RECONNECT_FIRST) * chance


async def supports_listen(db: Database, within: timedelta = timedelta(seconds=2)) -> bool:
    """Prove that sessions are direct: a transaction pooler in between breaks LISTEN and advisory locks silently.

    False: poll only, lock within transactions only, and warn. Raises NotUtc if the pooler does not keep the time zone.
    """
    channel = f"ampd_ray_{uuid4().hex}"
    async with db.session() as listener, db.session() as other:
        before = await _backend(listener)
        await _listen(listener, channel)
        async with other.transaction():
            await notify(other, channel, "self-test")
            # Either a pooler gives both the same server process or, while that is taken, the listener another one.
            shared = await _backend(other) == before
            if shared or await bounded(listener, _backend(listener), within) != before:
                with suppress(DatabaseUnavailable):  # there may be no other process for the listener at all
                    await bounded(listener, db.check(listener), within)
                return False
        await bounded(listener, _probe(listener), within)
        async with aclosing(listener.notifies(timeout=within.total_seconds(), stop_after=1)) as received:
            return any([message.channel == channel async for message in received])


async def _listen(conn: Connection, channel: str) -> None:
    await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))


async def _probe(conn: Connection) -> None:
    await conn.execute(_SQL["probe"])


async def _backend(conn: Connection) -> int:
    row = await (await conn.execute(_SQL["backend"])).fetchone()
    assert row is not None
    return int(row.pid)
