"""Sessions to the metadata database: pooled ones, transactions, and dedicated ones (``spec/metadata-db.md`` 1).

Every session speaks UTC, UTF-8 and ISO dates, bounds its statements, keeps its socket alive, and is checked for its
time zone before anybody sees it. What psycopg raises inside ``connection``, ``transaction`` and ``session`` leaves
as an ``AmpdError`` that names host and database, never the DSN.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ampd_ray.errors import CommitUnknown, DatabaseFault, DatabaseUnavailable
from ampd_ray.metadb.faults import classify, is_spent
from ampd_ray.metadb.queries import load
from ampd_ray.metadb.route import CONNECT, CONNECT_TIMEOUT, Route
from ampd_ray.metadb.session import STATEMENT_TIMEOUT, Connection

__all__ = ["Connection", "Database", "Limits", "bounded", "classify"]

T = TypeVar("T")

_SQL: Final = load(__file__)
_log: Final = logging.getLogger(__name__)
# Where nobody has set up logs, Python would print each attempt of the pool, in a notebook below whatever cell runs.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())

OPEN_WITHIN: Final = timedelta(seconds=60)
ACQUIRE_TIMEOUT: Final = timedelta(seconds=5)
CHECK_TIMEOUT: Final = timedelta(seconds=1)
CLOSE_TIMEOUT: Final = timedelta(seconds=5)
_RETRY_PAUSE: Final = timedelta(milliseconds=250)
_RETRY_PAUSE_MAX: Final = timedelta(seconds=3)
# Left to itself the pool tries again after longer and longer pauses. Whoever waits asks it anew each second instead.
_POOL_GIVES_UP: Final = timedelta(milliseconds=300)
_ASK_POOL_EVERY: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one transaction may run a statement, wait for a lock, and sit idle.

    A process that stands still amid one, as a machine without power, keeps its locks from others for so long: shorter
    than a lease lives, since leases are what it may have locked.
    """

    statement: timedelta = timedelta(seconds=10)
    lock: timedelta = timedelta(seconds=3)
    idle: timedelta = timedelta(seconds=3)


class Database:
    """The metadata database behind ``url``; holds no connection until ``open``.

    Pool figures as in Amp: ``pool_size`` at most, ``min_connections`` kept (default a quarter, at least 1), each
    renewed after ``max_lifetime`` and closed after ``idle_timeout``. Raises ConfigError for a ``url`` that libpq
    cannot read.
    """

    def __init__(
        self,
        url: str,
        *,
        application_name: str = "ampd-ray",
        pool_size: int = 10,
        min_connections: int | None = None,
        max_lifetime: timedelta = timedelta(seconds=1800),
        idle_timeout: timedelta = timedelta(seconds=600),
    ) -> None:
        self._route = Route(url, application_name)
        self.name = self._route.name
        self._pool_args: dict[str, Any] = {
            "min_size": min(pool_size, max(1, min_connections or math.ceil(pool_size / 4))),
            "max_size": pool_size,
            "reconnect_timeout": _POOL_GIVES_UP.total_seconds(),
            "max_lifetime": max_lifetime.total_seconds(),
            "max_idle": idle_timeout.total_seconds(),
        }
        self._pool: AsyncConnectionPool[Connection] | None = None

    def __repr__(self) -> str:
        return f"<Database {self.name}>"

    async def open(self, within: timedelta = OPEN_WITHIN) -> None:
        """Open the pool; transient trouble is tried again for ``within``.

        Raises DatabaseUnavailable when it lasts longer; DatabaseRefused and NotUtc at once.
        """
        await self.reach(within)
        self._pool = AsyncConnectionPool(
            self._route.conninfo,
            name="ampd-ray",
            connection_class=Connection,
            kwargs=CONNECT,
            configure=self._route.prepare,
            open=False,
            **self._pool_args,
        )
        await self._pool.open()

    async def close(self) -> None:
        """Close the pool and its connections."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close(timeout=CLOSE_TIMEOUT.total_seconds())

    async def reach(self, within: timedelta = OPEN_WITHIN) -> None:
        """Prove that a session can be had, waiting up to ``within`` for a database that is not there yet."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        pause = _RETRY_PAUSE
        while True:
            try:
                await (await self.connect_session()).close()
            except DatabaseUnavailable as error:
                left = within.total_seconds() - (loop.time() - started)
                if left <= pause.total_seconds():
                    message = f"{error.message} (tried for {loop.time() - started:.0f} s). Is Postgres running?"
                    raise DatabaseUnavailable(message, **error.details) from error
                _log.warning("%s; trying again for %.0f s", error.message, left)
            else:
                return
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 2, _RETRY_PAUSE_MAX)

    async def connect_session(self) -> Connection:
        """A session of its own outside the pool, in autocommit: for locks, heartbeats and LISTEN. The caller closes it.

        One attempt; raises DatabaseUnavailable, DatabaseRefused or NotUtc.
        """
        with self.translated():
            conn = await self._route.connect()
            try:
                await bounded(conn, self._route.prepare(conn), CONNECT_TIMEOUT)
            except BaseException:
                await conn.close()
                raise
            return conn

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """``connect_session`` for the length of a block."""
        conn = await self.connect_session()
        try:
            with self.translated():
                yield conn
        finally:
            await conn.close()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled session in autocommit: each statement is a transaction of its own."""
        if (pool := self._pool) is None:
            raise DatabaseFault(f"{self!r} is not open")
        with self.translated():
            conn = await _acquire(pool)
        try:
            async with self.minded(conn):
                yield conn
        finally:
            await pool.putconn(conn)

    @contextlib.asynccontextmanager
    async def transaction(self, limits: Limits | None = None) -> AsyncIterator[Connection]:
        """One READ COMMITTED transaction on a pooled session, committed at the end of the block.

        Raises CommitUnknown when the connection broke during COMMIT: nobody knows whether it happened.
        """
        limits = limits or Limits()
        async with self.connection() as conn:
            committing = False
            conn.statement_timeout = limits.statement
            try:
                async with conn.transaction():
                    await conn.execute(_SQL["limit_transaction"], _milliseconds(limits))
                    yield conn
                    if conn.info.transaction_status == TransactionStatus.INERROR:
                        raise DatabaseFault("a failed statement was swallowed inside a transaction")
                    committing = True
            except psycopg.Error as error:
                # An ERROR leaves the session alive and means a roll-back; a lost session means nothing.
                if committing and (conn.closed or is_spent(error)):
                    await conn.close()
                    message = f"the metadata database at {self.name} was lost during COMMIT"
                    raise CommitUnknown(message) from error
                raise
            finally:
                conn.statement_timeout = STATEMENT_TIMEOUT

    async def check(self, conn: Connection) -> None:
        """Prove that the session still speaks UTC. Raises NotUtc."""
        with self.translated():
            await self._route.check(conn)

    @contextlib.asynccontextmanager
    async def minded(self, conn: Connection) -> AsyncIterator[None]:
        """``translated``; and after an error that leaves ``conn`` of no use it is closed: another may do better."""
        with self.translated():
            try:
                yield
            except psycopg.Error as error:
                if is_spent(error):
                    await conn.close()
                raise

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Inside, psycopg's errors leave as AmpdErrors that name this database."""
        try:
            yield
        except psycopg.Error as error:
            raise classify(error, self.name) from error


async def bounded(conn: Connection, work: Coroutine[Any, Any, T], limit: timedelta) -> T:
    """The result of ``work`` on ``conn``, or DatabaseUnavailable after ``limit``.

    A session that did not answer is closed at once, since asking a dead server to cancel takes seconds itself.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=limit.total_seconds())
        if task.done():
            return task.result()
        raise DatabaseUnavailable(f"the metadata database did not answer within {limit.total_seconds():g} s")
    finally:
        if not task.done():
            await conn.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _acquire(pool: AsyncConnectionPool[Connection]) -> Connection:
    """A session that answers. Those that do not, as after a restart of the server, are given up one after the other.

    Raises PoolTimeout after ``ACQUIRE_TIMEOUT``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ACQUIRE_TIMEOUT.total_seconds()
    while True:
        asked = _cancelled()
        left = deadline - loop.time()
        try:
            conn = await pool.getconn(timeout=min(left, _ASK_POOL_EVERY.total_seconds()))
        except PoolTimeout:
            if left > _ASK_POOL_EVERY.total_seconds():
                continue
            raise PoolTimeout(f"no session could be had within {ACQUIRE_TIMEOUT.total_seconds():g} s") from None
        if _cancelled() > asked:
            # Until Python 3.12 ``wait_for``, by which the pool waits, drops a cancellation that meets its result; a
            # task that goes on all the same is waited for in vain.
            await pool.putconn(conn)
            raise asyncio.CancelledError
        if await _answers(pool, conn):
            return conn


async def _answers(pool: AsyncConnectionPool[Connection], conn: Connection) -> bool:
    """Whether a session of the pool works; if not, it is given back, and the pool makes another."""
    try:
        await bounded(conn, pool.check_connection(conn), CHECK_TIMEOUT)
    except (psycopg.Error, DatabaseUnavailable):
        await conn.close()
        await pool.putconn(conn)
        return False
    except BaseException:
        await pool.putconn(conn)
        raise
    return True


def _cancelled() -> int:
    """How often the running task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _milliseconds(limits: Limits) -> dict[str, str]:
    spans = {"statement": limits.statement, "lock": limits.lock, "idle": limits.idle}
    return {name: f"{span // timedelta(milliseconds=1)}ms" for name, span in spans.items()}
