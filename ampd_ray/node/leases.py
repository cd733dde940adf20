"""Keeps the leases of a node's jobs alive, and says at once when they are not (``spec/commit.md`` 3).

The heartbeat renews them on its own session, after the beat. A job counts its lease from the moment before the last
good renewal was *sent*, on a clock that runs while the machine sleeps; a second before the end it hands out no more
work, until a renewal gets through again. That is politeness: what makes a late commit harmless is the epoch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from ampd_ray.errors import Fenced
from ampd_ray.materialize.leases import Holder
from ampd_ray.metadb import leases
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.leases import LEASE_LIFE
from ampd_ray.node.counters import Counters

_log: Final = logging.getLogger(__name__)

STOP_BEFORE: Final = timedelta(seconds=1)  # the end of a lease
CHECK_EVERY: Final = timedelta(milliseconds=100)
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # elsewhere than on Linux the latter runs on


def boot_time() -> float:
    """Seconds since the machine started, those in which it slept included."""
    return time.clock_gettime(_CLOCK)


@dataclass(slots=True)
class _Hold:
    """The leases of one job, good until ``until`` by the keeper's clock."""

    location_ids: frozenset[int]
    until: float
    holder: Holder
    lapsed: bool = False


class LeaseKeeper:
    """Which locations the jobs of this process hold, and until when. ``clock`` counts seconds, as ``boot_time``."""

    def __init__(
        self,
        incarnation: UUID,
        counters: Counters,
        ttl: timedelta = LEASE_LIFE,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self.clock = clock
        self._incarnation = incarnation
        self._counters = counters
        self._ttl = ttl
        self._holds: dict[int, _Hold] = {}
        self._one_renewal = asyncio.Lock()

    def hold(self, job_id: int, location_ids: Collection[int], asked_at: float, holder: Holder) -> None:
        """Renew these leases from now on; the job asked for them at ``asked_at``. Replaces what the job held before."""
        self._holds[job_id] = _Hold(frozenset(location_ids), asked_at + self._ttl.total_seconds(), holder)

    async def let_go(self, job_id: int) -> None:
        """Renew nothing of the job any more, from the moment that this returns; the caller releases the leases.

        Whoever is cancelled here has let go all the same: leases of a job that nobody runs would be renewed for ever.
        """
        self._holds.pop(job_id, None)
        async with self._one_renewal:  # one that is under way was asked for before
            pass

    async def renew(self, conn: Connection) -> None:
        """Renew everything that is held, on the heartbeat's session; jobs that have lost something are told."""
        async with self._one_renewal:
            asked = frozenset(at for hold in self._holds.values() for at in hold.location_ids)
            if not asked:
                return
            asked_at = self.clock()
            renewal = await leases.renew(conn, asked, self._incarnation, self._ttl)
            for job_id, hold in list(self._holds.items()):
                mine = hold.location_ids & asked
                if lost := mine - renewal.kept - renewal.delayed:
                    self._lost(job_id, lost)
                elif hold.location_ids <= renewal.kept:
                    hold.until = max(hold.until, asked_at + self._ttl.total_seconds())
        self.check()

    async def watch(self) -> None:
        """Look at the clock all the time: nothing else tells that a renewal did not come. Never returns."""
        while True:
            self.check()
            await asyncio.sleep(CHECK_EVERY.total_seconds())

    def check(self) -> None:
        """Tell each job whose leases are about to end, or good again."""
        now = self.clock()
        for job_id, hold in self._holds.items():
            lapsed = now >= hold.until - STOP_BEFORE.total_seconds()
            if lapsed is hold.lapsed:
                continue
            hold.lapsed = lapsed
            if lapsed:
                self._counters.lease_lapses += 1
                _log.warning("the leases of a job were not renewed in time: it pauses", extra={"job_id": job_id})
                hold.holder.lapsed()
            else:
                _log.info("the leases of a job are renewed: it goes on", extra={"job_id": job_id})
                hold.holder.renewed()

    def _lost(self, job_id: int, location_ids: Collection[int]) -> None:
        self._counters.lease_losses += 1
        revisions = ", ".join(map(str, sorted(location_ids)))
        error = Fenced(f"the lease of revision {revisions} was taken by another", job_id=job_id)
        _log.warning("a job has lost its leases and ends", extra={"job_id": job_id, "error": error})
        self._holds.pop(job_id).holder.lost(error)
