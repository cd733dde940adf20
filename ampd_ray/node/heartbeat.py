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
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from uuid import UUID

from ampd_ray.errors import AmpdError, DatabaseUnavailable, Fenced, NodeInUse
from ampd_ray.metadb import leases, workers
from ampd_ray.metadb.connection import Connection, Database, bounded
from ampd_ray.node.counters import Counters
from ampd_ray.node.leases import LeaseKeeper

P = ParamSpec("P")
T = TypeVar("T")
_log: Final = logging.getLogger(__name__)

BEAT_EVERY: Final = timedelta(seconds=1)
BEAT_LIMIT: Final = timedelta(seconds=1)
LOCK_EVERY: Final = timedelta(seconds=1)
CALL_LIMIT: Final = timedelta(seconds=5)
NAME_BYTES: Final = 63  # Postgres cuts longer application names
_PAUSE_SECS: Final = 0.1
_PAUSE_MAX_SECS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are: the Node ID, this process among those that ever ran it, and what ``workers.info`` says."""

    node_id: str
    incarnation: UUID
    info: dict[str, str]

    @property
    def session_name(self) -> str:
        """The application name of our sessions (1.10), by which a lost one is known; cut as Postgres cuts it."""
        name = f"ampd-ray/{self.node_id}/{self.incarnation}"
        return name.encode()[:NAME_BYTES].decode(errors="ignore")


def in_use(node_id: str, waited: timedelta) -> NodeInUse:
    """The error for a Node ID whose lock another session has kept all the while."""
    return NodeInUse(
        f"node id {node_id!r} is in use: another live process holds its lock (waited {waited.total_seconds():g} s). "
        "Stop that worker, or give this one another --node-id."
    )


class Heartbeat:
    """Holds a Node ID for this process. ``start``, then ``run`` until ``release``.

    The lock is asked for each second for ``lock_timeout`` before somebody else's is taken for good. The sessions of
    ``db`` must carry ``identity.session_name``.
    """

    def __init__(
        self,
        db: Database,
        identity: Identity,
        counters: Counters,
        keeper: LeaseKeeper,
        *,
        lock_timeout: timedelta = timedelta(seconds=60),
        lease_ttl: timedelta = timedelta(seconds=4),
    ) -> None:
        self.counters = counters
        self.retired = False
        self._db = db
        self._identity = identity
        self._keeper = keeper
        self._node_id = identity.node_id
        self._incarnation = identity.incarnation
        self._lock_timeout = lock_timeout
        self._lease_ttl = lease_ttl
        self._holds = False
        self._conn: Connection | None = None
        self._one_call = asyncio.Lock()  # a beat that is under way must not overtake ``retire``
        self._released = asyncio.Event()

    async def start(self) -> None:
        """Lock, lease, register: in this order, so that a second process changes nothing before it is refused.

        Raises :class:`NodeInUse` if another session keeps the lock for ``lock_timeout``.
        """
        self._conn = await self._db.connect_session()
        await self._lock(regain=False)
        await self._call(CALL_LIMIT, workers.take_node_lease, self._incarnation, self._lease_ttl)
        self._holds = True
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
            if not await self._call(CALL_LIMIT, workers.retire, self._incarnation):
                raise self._lost()

    async def release(self) -> None:
        """Retire, release what jobs have not, end the node lease, give the lock back, close the session.

        Never raises, and touches no row that another process has taken: what is left also times out.
        """
        self._released.set()
        async with self._one_call:
            try:
                if self._holds:
                    # The usual session may have broken off in the middle of a beat.
                    async with self._db.session() as conn:
                        await bounded(conn, self._give_up(conn), CALL_LIMIT)
            except AmpdError as error:
                _log.warning("the node lease could not be ended; it will lapse", extra={"error": error})
            finally:
                await self._close()

    async def _give_up(self, conn: Connection) -> None:
        self._holds = False
        await workers.retire(conn, self._node_id, self._incarnation)
        try:
            with self._db.translated():
                await leases.release(conn, self._incarnation)
        except DatabaseUnavailable as error:
            _log.warning("a lease is held by a commit under way; it will lapse", extra={"error": error})
        await workers.release_node_lease(conn, self._node_id, self._incarnation)

    # -- one beat ---------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """The heartbeat first, then the leases: our own commit may hold one for a moment (2.5)."""
        async with self._one_call:
            if self._released.is_set():
                return
            if not self.retired and not await self._call(BEAT_LIMIT, workers.beat):
                _log.warning("the node's row in `workers` is gone; registering again")
                await self._register()
            await self._renew()
        self.counters.beats += 1

    async def _renew(self) -> None:
        """The node's lease, then those of its jobs."""
        if not await self._call(BEAT_LIMIT, workers.renew_node_lease, self._incarnation, self._lease_ttl):
            raise self._lost()
        await self._call(BEAT_LIMIT, lambda conn, _: self._keeper.renew(conn))

    async def _register(self) -> None:
        await self._call(CALL_LIMIT, workers.register, self._identity.info)
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
                await self._lock(regain=True)
                await self._renew()
            except DatabaseUnavailable as error:
                _log.warning("the heartbeat session is lost; connecting again", extra={"error": error})
            else:
                self.counters.session_reconnects += 1
                return
            await self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, protects nothing
            pause = min(pause * 2, _PAUSE_MAX_SECS)

    async def _lock(self, *, regain: bool) -> None:
        """Take the node lock, asking each second.

        A foreign session may keep it for ``lock_timeout``; a dead one of an earlier process of this node is ended. Our
        own lost session may keep it for as long as the server takes to notice; the lease is renewed meanwhile, which
        also tells whether another process has the node.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._lock_timeout.total_seconds()
        while not await self._call(CALL_LIMIT, workers.try_lock):
            holder = await self._call(CALL_LIMIT, workers.holder)
            if regain:
                await self._renew()
            if regain and self._is_own(holder):
                deadline = loop.time() + self._lock_timeout.total_seconds()
            elif not regain and holder and await self._call(CALL_LIMIT, workers.end_dead_session, holder):
                _log.warning("ended a dead session of this node, which still held its lock", extra={"holder": holder})
            elif loop.time() >= deadline:
                raise self._lost() if regain else in_use(self._node_id, self._lock_timeout)
            self.counters.lock_waits += 1
            _log.warning("the node id is in use; asking again", extra={"holder": holder})
            await self._sleep(LOCK_EVERY.total_seconds())

    def _is_own(self, holder: workers.Holder | None) -> bool:
        return holder is not None and holder.same_role and holder.application_name == self._identity.session_name

    def _lost(self) -> AmpdError:
        return Fenced(f"another process runs node {self._node_id!r} now: this one stops")

    async def _close(self) -> None:
        if self._conn is not None:
            conn, self._conn = self._conn, None
            await conn.close()

    async def _sleep(self, secs: float) -> None:
        """Sleep, but wake up at once on ``release``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(secs):
                await self._released.wait()
