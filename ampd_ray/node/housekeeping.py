"""Sweep the revisions that nobody holds: what the last holder left when its job ended or its node died for good."""

from __future__ import annotations

import time
from typing import Final

from ampd_ray.materialize.sweep import Broom, Sweeper
from ampd_ray.materialize.types import Location
from ampd_ray.metadb import progress, sweep
from ampd_ray.metadb.connection import Database

SWEEP_EVERY_SECS: Final = 60.0
FORGET_EVERY_SECS: Final = 3600.0  # it reads the whole index


class Housekeeping:
    """Sweeps for one fail-over group, which shares a data directory. Several nodes may do it at once."""

    def __init__(self, broom: Broom, db: Database, failover_group: str) -> None:
        self._db = db
        self._failover_group = failover_group
        self._sweeper = Sweeper(broom, self._idle, SWEEP_EVERY_SECS)
        self._forget_at = time.monotonic()

    async def run(self) -> None:
        """Sweep every minute, for ever; what fails is logged and tried again."""
        await self._sweeper.run()

    async def once(self) -> bool:
        """Sweep now; False if something went wrong."""
        return await self._sweeper.once()

    async def _idle(self) -> list[Location]:
        """The revisions that nobody holds, each at an epoch under which everything left behind may go."""
        async with self._db.connection() as conn:
            if time.monotonic() >= self._forget_at:
                await sweep.forget_deleted_revisions(conn)
                await progress.forget_deleted_jobs(conn)
                self._forget_at = time.monotonic() + FORGET_EVERY_SECS
            found = await sweep.idle(conn, self._failover_group)
            epochs = [await sweep.supersede(conn, each.location_id, each.epoch) for each in found]
        return [Location("", each.location_id, each.path, epoch) for each, epoch in zip(found, epochs, strict=True)]
