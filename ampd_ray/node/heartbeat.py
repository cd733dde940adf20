"""The heartbeat of a node: its claim, its row in ``workers``, the beat and the leases (``spec/metadata-db.md`` 4).

All of it lives on one session of its own. Losing that session is an accident that is repaired while the jobs go on;
only another process that has taken the node is the end (``Fenced``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from datetime import timedelta
from typing import Final

from ampd_ray.errors import AmpdError, DatabaseUnavailable
from ampd_ray.materialize.patience import Complaints
from ampd_ray.metadb import leases, workers
from ampd_ray.metadb.connection import Connection, Database, bounded
from ampd_ray.node.counters import Counters
from ampd_ray.node.identity import Identity
from ampd_ray.node.leases import LeaseKeeper
from ampd_ray.node.lock import NodeLock
from ampd_ray.node.session import CALL_LIMIT, NodeSession

_log: Final = logging.getLogger(__name__)

BEAT_EVERY: Final = timedelta(seconds=1)
BEAT_LIMIT: Final = timedelta(seconds=1)
_PAUSE_SECS: Final = 0.1
_PAUSE_MAX_SECS: Final = 1.0  # a node that beats late looks dead


class Heartbeat:
    """Holds a Node ID for this process. ``start``, then ``run`` until ``release``.

    The node is asked for each second for ``lock_timeout`` before somebody else's is taken for good. The sessions of
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
        self._info = identity.info
        self._lease_ttl = lease_ttl
        self._lock = NodeLock(identity, counters, lock_timeout, self._sleep)
        self._session = NodeSession(db, identity.node_id)
        self._direct = True
        self._holds = False
        self._one_call = asyncio.Lock()  # a beat that is under way must not overtake ``retire``
        self._released = asyncio.Event()

    async def start(self, *, direct: bool = True) -> None:
        """Claim the node, then register: in this order, so that a second process changes nothing before it is refused.

        ``direct``: sessions are ours alone, so that a lock holds for their life; else ``workers.info`` says so. Raises
        :class:`NodeInUse` if another process keeps the node for ``lock_timeout``.
        """
        self._direct = direct
        await self._session.open()
        if direct:
            await self._lock.take(self._session, self._lease_ttl)
        else:
            self._info = {**self._info, "sessions": "pooled"}
            await self._lock.take_lease_only(self._session, self._lease_ttl)
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
            if self._session.is_open:
                await self._sleep(BEAT_EVERY.total_seconds())
            else:
                await self._reconnect()

    async def retire(self) -> None:
        """Let no scheduler choose this node any more: draining, last beat in the past. The node lease lives on."""
        async with self._one_call:
            self.retired = True
            if not await self._session.call(CALL_LIMIT, workers.retire, self._incarnation):
                raise self._identity.lost()

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
                await self._session.close()

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
            if not self.retired and not await self._session.call(BEAT_LIMIT, workers.beat):
                _log.warning("the node's row in `workers` is gone; registering again")
                await self._register()
            await self._renew()
        self.counters.beats += 1

    async def _renew(self) -> None:
        """The node's lease, then those of its jobs."""
        if not await self._session.call(BEAT_LIMIT, workers.renew_node_lease, self._incarnation, self._lease_ttl):
            raise self._identity.lost()
        await self._session.call(BEAT_LIMIT, lambda conn, _: self._keeper.renew(conn))

    async def _register(self) -> None:
        await self._session.call(CALL_LIMIT, workers.register, self._info)
        self.counters.registrations += 1

    # -- the next session -------------------------------------------------------------------------------------------

    async def _reconnect(self) -> None:
        """A new session that holds the lock, however long it takes; the jobs go on meanwhile.

        Raises :class:`Fenced` if another process holds the lock for ``lock_timeout``, or has the node lease.
        """
        complaints = Complaints("the heartbeat session is lost")
        pause = _PAUSE_SECS
        while not self._released.is_set():
            try:
                await self._session.open()
                if self._direct:
                    await self._lock.regain(self._session, self._bide)
                await self._renew()
            except DatabaseUnavailable as error:
                complaints.add(error)
            else:
                complaints.settle()
                self.counters.session_reconnects += 1
                return
            await self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, protects nothing
            pause = min(pause * 2, _PAUSE_MAX_SECS)

    async def _bide(self, ours: bool) -> None:
        """What is done while the lock is held by another session: it may be a lost one of ours, and we live."""
        if ours:
            await self._beat()
        else:
            await self._renew()

    async def _sleep(self, secs: float) -> None:
        """Sleep, but wake up at once on ``release``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(secs):
                await self._released.wait()
