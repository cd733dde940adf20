"""The node's identity: its lock, its lease, its row in ``workers`` and the beat (``spec/metadata-db.md`` 4).

All of it lives on one session of its own. Losing that session is an accident that is repaired while the jobs go on;
only another process that has taken the node is the end (``Fenced``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from uuid import UUID

from ampd_ray.errors import AmpdError, DatabaseUnavailable, Fenced, NodeInUse
from ampd_ray.metadb import workers
from ampd_ray.metadb.connection import Connection, Database, bounded
from ampd_ray.node.counters import Counters

P = ParamSpec("P")
T = TypeVar("T")
_log: Final = logging.getLogger(__name__)

BEAT_EVERY: Final = timedelta(seconds=1)
BEAT_LIMIT: Final = timedelta(seconds=1)
LOCK_EVERY: Final = timedelta(seconds=1)
CALL_LIMIT: Final = timedelta(seconds=5)
_PAUSE_SECS: Final = 0.1
_PAUSE_MAX_SECS: Final = 5.0


class Heartbeat:
    """Holds ``node_id`` for this process. ``start``, then ``run`` until ``release``.

    The lock is asked for each second for ``lock_timeout`` before somebody else's is taken for good.
    """

    def __init__(
        self,
        db: Database,
        node_id: str,
        incarnation: UUID,
        info: dict[str, str],
        counters: Counters,
        *,
        lock_timeout: timedelta = timedelta(seconds=60),
        lease_ttl: timedelta = timedelta(seconds=4),
    ) -> None:
        self.counters = counters
        self.retired = False
        self._db = db
        self._node_id = node_id
        self._incarnation = incarnation
        self._info = info
        self._lock_timeout = lock_timeout
        self._lease_ttl = lease_ttl
        self._conn: Connection | None = None
        self._one_call = asyncio.Lock()  # a beat that is under way must not overtake ``retire``
        self._released = asyncio.Event()

    async def start(self) -> None:
        """Lock, lease, register: in this order, so that a second process changes nothing before it is refused.

        Raises :class:`NodeInUse` if another session keeps the lock for ``lock_timeout``.
        """
        self._conn = await self._db.connect_session()
        await self._lock(self._in_use)
        await self._call(CALL_LIMIT, workers.take_node_lease, self._incarnation, self._lease_ttl)
        await self._register()

    async def run(self) -> None:
        """Beat every second until ``release``. Raises :class:`Fenced` when another process owns the node."""
        while not self._released.is_set():
            try:
                await self._beat()
            except DatabaseUnavailable as error:
                self.counters.late_beats += 1
                _log.warning("a heartbeat was missed", extra={"error": error})
            if self._conn is None or self._conn.closed:
                await self._reconnect()
            else:
                await self._sleep(BEAT_EVERY.total_seconds())

    async def retire(self) -> None:
        """Let no scheduler choose this node any more: draining, last beat in the past. The node lease lives on."""
        async with self._one_call:
            self.retired = True
            await self._call(CALL_LIMIT, workers.retire)

    async def release(self) -> None:
        """End the node lease, give the lock back, close the session. Never raises: leases and locks also time out."""
        self._released.set()
        async with self._one_call:
            try:
                if self._conn is not None and not self._conn.closed:
                    await self._call(CALL_LIMIT, workers.release_node, self._incarnation)
            except AmpdError as error:
                _log.warning("the node lease could not be ended; it will lapse", extra={"error": error})
            finally:
                await self._close()

    # -- one beat ---------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """The heartbeat first, then the lease: our own commit may hold the latter for a moment (2.5)."""
        async with self._one_call:
            if self._released.is_set():
                return
            if not self.retired and not await self._call(BEAT_LIMIT, workers.beat):
                _log.warning("the node's row in `workers` is gone; registering again")
                await self._register()
            await self._renew()
        self.counters.beats += 1

    async def _renew(self) -> None:
        if not await self._call(BEAT_LIMIT, workers.renew_node_lease, self._incarnation, self._lease_ttl):
            raise Fenced(f"node {self._node_id!r} was taken over by another process: this one stops")

    async def _register(self) -> None:
        await self._call(CALL_LIMIT, workers.register, self._info)
        self.counters.registrations += 1

    async def _call(
        self,
        limit: timedelta,
        verb: Callable[Concatenate[Connection, str, P], Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        conn = self._conn
        if conn is None:
            raise DatabaseUnavailable("the node has no session to the metadata database")
        with self._db.translated():
            return await bounded(conn, verb(conn, self._node_id, *args, **kwargs), limit)

    # -- the session and its lock -----------------------------------------------------------------------------------

    async def _reconnect(self) -> None:
        """A new session that holds the lock, however long it takes; the jobs go on meanwhile.

        Raises :class:`Fenced` if another process holds the lock for ``lock_timeout``, or has the node lease.
        """
        pause = _PAUSE_SECS
        while not self._released.is_set():
            await self._close()
            try:
                self._conn = await self._db.connect_session()
                await self._lock(self._taken)
                await self._renew()
            except DatabaseUnavailable as error:
                _log.warning("the heartbeat session is lost; connecting again", extra={"error": error})
            else:
                self.counters.session_reconnects += 1
                return
            await self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, protects nothing
            pause = min(pause * 2, _PAUSE_MAX_SECS)

    async def _lock(self, refused: Callable[[], AmpdError]) -> None:
        """Take the node lock, asking each second; after ``lock_timeout`` raise what ``refused`` makes."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._lock_timeout.total_seconds()
        while not await self._call(CALL_LIMIT, workers.try_lock):
            if loop.time() >= deadline:
                raise refused()
            _log.warning("the node id is in use; waiting", extra={"node_id": self._node_id})
            await self._sleep(min(LOCK_EVERY.total_seconds(), max(0.0, deadline - loop.time())))

    def _in_use(self) -> AmpdError:
        return NodeInUse(
            f"node id {self._node_id!r} is in use: another live process holds its lock "
            f"(waited {self._lock_timeout.total_seconds():g} s). Stop that worker, or give this one another --node-id."
        )

    def _taken(self) -> AmpdError:
        return Fenced(
            f"another process took the lock of node {self._node_id!r} while its session was lost: this one stops"
        )

    async def _close(self) -> None:
        if self._conn is not None:
            conn, self._conn = self._conn, None
            await conn.close()

    async def _sleep(self, secs: float) -> None:
        """Sleep, but wake up at once on ``release``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(secs):
                await self._released.wait()
