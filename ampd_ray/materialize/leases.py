"""The leases of one run of a job: taken before it plans, kept by its node meanwhile, let go at its end.

(``spec/commit.md`` 3, ``spec/metadata-db.md`` 2.5.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

from ampd_ray.errors import AmpdError, DatabaseUnavailable, LeaseHeld
from ampd_ray.metadb import leases, revisions
from ampd_ray.metadb.connection import Database

logger = logging.getLogger(__name__)

TRY_EVERY_SECS: Final = 1.0
WARN_EVERY_SECS: Final = 60.0
RELEASE_WITHIN_SECS: Final = 3.0


class Holder(Protocol):
    """Whoever holds leases, as their keeper sees him. Called on the event loop; must not wait."""

    def lapsed(self) -> None:
        """Nobody renewed in time: hand out no work."""

    def renewed(self) -> None:
        """The leases are good again, and were nobody else's meanwhile."""

    def lost(self, error: AmpdError) -> None:
        """Somebody else has taken a lease: end, and write nothing."""


class Keeper(Protocol):
    """Renews the leases of a node's jobs. ``clock`` counts seconds, also while the machine sleeps."""

    @property
    def clock(self) -> Callable[[], float]:
        """The clock by which leases are counted."""

    def hold(self, job_id: int, location_ids: Collection[int], asked_at: float, holder: Holder) -> None:
        """Renew these from now on; they were asked for at ``asked_at``."""

    async def let_go(self, job_id: int) -> None:
        """Renew nothing of this job any more."""


@dataclass(frozen=True)
class Claimant:
    """Who takes leases, for which job."""

    job_id: int
    node_id: str
    incarnation: UUID
    ttl: timedelta


class JobLeases:
    """Holds the leases of one run; ``good`` while it may hand out work under them.

    ``on_change`` hears whether they are good, ``on_lost`` that they are another's, and ``on_wait`` what is waited for:
    ``lease``, ``db``, or None when that is over.
    """

    def __init__(
        self,
        claimant: Claimant,
        db: Database,
        keeper: Keeper,
        *,
        on_change: Callable[[bool], None],
        on_lost: Callable[[AmpdError], None],
        on_wait: Callable[[str | None], None],
    ) -> None:
        self._claimant = claimant
        self._db = db
        self._keeper = keeper
        self._on_change = on_change
        self._on_lost = on_lost
        self._on_wait = on_wait
        self.good = False

    async def take(self, location_ids: Collection[int]) -> dict[int, int]:
        """Become the writer of these revisions under a new epoch; their epochs.

        Waits as long as somebody else holds one of them, and for a database that is away. Raises Fenced when the job
        is another node's now.
        """
        started = complained = time.monotonic()
        while True:
            asked_at = self._keeper.clock()
            try:
                epochs = await self._acquire(location_ids)
            except (LeaseHeld, DatabaseUnavailable) as error:
                self._on_wait("lease" if isinstance(error, LeaseHeld) else "db")
                if time.monotonic() - complained >= WARN_EVERY_SECS:
                    complained = time.monotonic()
                    facts = {"error": error, "for_secs": round(complained - started)}
                    logger.warning("a job still waits for its leases", extra=facts)
                left = error.for_secs if isinstance(error, LeaseHeld) else TRY_EVERY_SECS
                await asyncio.sleep(min(TRY_EVERY_SECS, left))
            else:
                self._keeper.hold(self._claimant.job_id, location_ids, asked_at, self)
                self.renewed()
                self._on_wait(None)
                return epochs

    async def release(self) -> None:
        """Let the next holder have them at once. Never raises: what is not released runs out."""
        await self._keeper.let_go(self._claimant.job_id)
        try:
            async with asyncio.timeout(RELEASE_WITHIN_SECS), self._db.connection() as conn:
                await leases.release(conn, self._claimant.incarnation, self._claimant.job_id)
        except (AmpdError, TimeoutError) as error:
            logger.warning("the leases of a job were not released; they run out", extra={"error": error})

    async def _acquire(self, location_ids: Collection[int]) -> dict[int, int]:
        who = self._claimant
        async with self._db.transaction() as conn:
            epochs = await leases.acquire(conn, location_ids, who.job_id, who.node_id, who.incarnation, who.ttl)
            await revisions.set_writer(conn, location_ids, who.job_id)
        return epochs

    # -- what the keeper says -------------------------------------------------------------------------------------

    def lapsed(self) -> None:
        """See ``Holder``."""
        self.good = False
        self._on_change(False)

    def renewed(self) -> None:
        """See ``Holder``."""
        self.good = True
        self._on_change(True)

    def lost(self, error: AmpdError) -> None:
        """See ``Holder``."""
        self._on_lost(error)
