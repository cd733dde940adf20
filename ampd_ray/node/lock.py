"""How a process claims its Node ID (``spec/metadata-db.md`` 4): by the lock that Amp's workers take as well.

Behind a pooler no session holds a lock for life. There the node lease is the claim: it is taken only when no session
holds the lock and no process renews the lease, and whoever loses it is fenced as ever. What this cannot do is to keep
an Amp worker away that starts later under the same Node ID.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from ampd_ray.metadb import workers
from ampd_ray.metadb.workers import Holder
from ampd_ray.node.counters import Counters
from ampd_ray.node.identity import Identity, in_use
from ampd_ray.node.session import CALL_LIMIT, NodeSession

_log: Final = logging.getLogger(__name__)

LOCK_EVERY: Final = timedelta(seconds=1)
_FREED_SECS: Final = 0.05  # between ending a session and asking for what it held


class NodeLock:
    """Claims a Node ID at the start, and its lock again on each later session. It is asked for each second.

    ``timeout``: how long another process may keep it before that is an error; ``sleep`` may end early.
    """

    def __init__(
        self, identity: Identity, counters: Counters, timeout: timedelta, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._identity = identity
        self._node_id = identity.node_id
        self._counters = counters
        self._timeout = timeout
        self._sleep = sleep

    async def take(self, session: NodeSession, lease_ttl: timedelta) -> None:
        """Lock, then take the node lease whatever it says; a dead session of an earlier process of this node is ended.

        Raises NodeInUse.
        """
        deadline = self._deadline()
        while not await session.call(CALL_LIMIT, workers.try_lock):
            holder = await session.call(CALL_LIMIT, workers.holder)
            dead = holder is not None and await session.call(CALL_LIMIT, workers.end_dead_session, holder)
            if dead:
                _log.warning("ended a dead session of this node, which still held its lock", extra={"holder": holder})
                await self._sleep(_FREED_SECS)
            else:
                await self._wait(deadline, holder)
        await session.call(CALL_LIMIT, workers.take_node_lease, self._identity.incarnation, lease_ttl)

    async def take_lease_only(self, session: NodeSession, lease_ttl: timedelta) -> None:
        """Take the node lease when nobody else has the node. Raises NodeInUse."""
        deadline = self._deadline()
        while not await session.call(CALL_LIMIT, workers.take_free_node_lease, self._identity.incarnation, lease_ttl):
            await self._wait(deadline, None)

    async def regain(self, session: NodeSession, meanwhile: Callable[[bool], Awaitable[None]]) -> None:
        """Lock again on a new session; Fenced if another process keeps the lock.

        Our own lost session may hold it for as long as the server takes to notice: it is ended where its name proves
        that it is ours, else waited for. ``meanwhile`` is called each time, and told whether the node still seems ours.
        """
        deadline = self._deadline()
        while not await session.call(CALL_LIMIT, workers.try_lock):
            holder = await session.call(CALL_LIMIT, workers.holder)
            ours = holder is None or self._identity.is_ours(holder)
            await meanwhile(ours)
            if ours:
                deadline = self._deadline()
            elif asyncio.get_running_loop().time() >= deadline:
                raise self._identity.lost()
            if await self._end_lost(session, holder):
                self._counters.lost_sessions_ended += 1
                _log.warning("ended the lost session of this process, which still held the node's lock")
                await self._sleep(_FREED_SECS)
            else:
                await self._again(holder)

    async def _end_lost(self, session: NodeSession, holder: Holder | None) -> bool:
        if holder is None or not (self._identity.is_ours(holder) and self._identity.name_is_proof):
            return False
        return await session.call(CALL_LIMIT, lambda conn, _: workers.end_lost_session(conn, holder))

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout.total_seconds()

    async def _wait(self, deadline: float, holder: Holder | None) -> None:
        if asyncio.get_running_loop().time() >= deadline:
            raise in_use(self._node_id, self._timeout)
        await self._again(holder)

    async def _again(self, holder: Holder | None) -> None:
        self._counters.lock_waits += 1
        _log.warning("the node id is in use; asking again", extra={"holder": holder})
        await self._sleep(LOCK_EVERY.total_seconds())
