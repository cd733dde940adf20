"""Delete what nobody can commit or read any more (``spec/commit.md`` 7, ``spec/metadata-db.md`` 8.5, 8.6).

Three things, each of which a crash may interrupt anywhere: files that a superseded epoch announced (object first,
then the mark), files that were replaced (row and tombstone in one transaction, object, tombstone), and tombstones
that an earlier sweep left. A listing never decides. A failed sweep is tried again later and disturbs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, ParamSpec, TypeVar

from ampd_ray import failpoints
from ampd_ray.errors import AmpdError, StoreError, Unexpected
from ampd_ray.materialize.patience import Complaints
from ampd_ray.materialize.types import Location
from ampd_ray.metadb import sweep as rows
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import Store
from ampd_ray.store.layout import is_in

LOOK_AGAIN_EVERY_SECS: Final = rows.LOOK_AGAIN_AFTER.total_seconds()

_THREADS: Final = ThreadPoolExecutor(4, "sweep")  # of all jobs of a node

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Swept:
    """What a sweep did: objects deleted for superseded intents, ids of files collected, tombstones finished."""

    intents: int = 0
    collected: list[int] = field(default_factory=list)
    tombstones: int = 0
    error: StoreError | None = None
    """The first object that could not be deleted; it stays marked as to be deleted."""

    def __bool__(self) -> bool:
        return bool(self.intents or self.collected or self.tombstones)


@dataclass(frozen=True)
class Broom:
    """Sweeps revisions. ``collect``: replaced files too, not only what was never committed.

    ``on_collected`` hears the ids of files that are registered no more, as soon as that is so.
    """

    db: Database
    store: Store
    collect: bool
    on_collected: Callable[[Collection[int]], None] = lambda _: None

    async def sweep(self, location: Location, *, again_after: timedelta | None = None) -> Swept:
        """Sweep one revision under the epoch at which ``location`` is held; nothing if it is at another one by now.

        ``again_after``: look again at files swept longer ago than this. Raises a ``StoreError`` after having done
        what could be done, or a database error.
        """
        done = Swept()
        try:
            await _in_thread(self.store.clear_staging, location.location_id, location.epoch)
        except StoreError as error:
            done.error = error
        await self._intents(location, again_after, done)
        while self.collect and (page := await rows.collect(self.db, location.location_id, location.epoch)):
            await failpoints.reach("sweep-collected")
            self.on_collected(page)
            done.collected += page
        await self._tombstones(location, done)
        if done.error is not None:
            raise done.error
        return done

    async def _intents(self, location: Location, again_after: timedelta | None, done: Swept) -> None:
        """Delete the objects of superseded intents, page by page."""
        at = (location.location_id, location.epoch)
        async with self.db.connection() as conn:
            await rows.drop_fulfilled(conn, *at)
            page = await rows.superseded(conn, *at, again_after=again_after)
        while page:
            names = {intent.file_name: f"{location.path}/{intent.file_name}" for intent in page}
            await failpoints.reach("sweep-found")
            deleted = await _in_thread(_remove, self.store.discard, names, done)
            await failpoints.reach("sweep-deleted")
            async with self.db.connection() as conn:
                await rows.mark_swept(conn, *at, deleted)
                page = await rows.superseded(conn, *at, after=page[-1].file_name, again_after=again_after)
            done.intents += len(deleted)

    async def _tombstones(self, location: Location, done: Swept) -> None:
        """Delete the objects that have a tombstone.

        One of another store is left to those who use that, one outside the revision to whoever wrote that it goes: with
        a row anybody could have the files of others deleted.
        """
        async with self.db.connection() as conn:
            page = await rows.tombstones(conn, location.location_id)
        while page:
            ours = {
                url: path
                for url in page
                if (path := self.store.path_of(url)) is not None and is_in(location.path, path)
            }
            deleted = await _in_thread(_remove, self.store.delete, ours, done)
            async with self.db.connection() as conn:
                await rows.drop_tombstones(conn, deleted)
                page = await rows.tombstones(conn, location.location_id, page[-1])
            done.tombstones += len(deleted)


async def _in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As ``asyncio.to_thread``: a store that hangs holds up sweeps, and no look-up of an address for a heartbeat."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(call, *args, **kwargs))


def _remove(verb: Callable[[str], None], paths: Mapping[str, str], done: Swept) -> list[str]:
    """Remove the objects at ``paths`` by a verb of the store; the keys of those that are gone now."""
    gone = []
    for key, path in paths.items():
        try:
            verb(path)
            gone.append(key)
        except StoreError as error:
            done.error = done.error or error
    return gone


Locations = Callable[[], Awaitable[Sequence[Location]]]


class Sweeper:
    """Sweeps again and again, as a task of its own: what goes wrong is logged, a line a minute, and tried again.

    ``locations`` gives the revisions to sweep each time.
    """

    def __init__(
        self,
        broom: Broom,
        locations: Locations,
        every_secs: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._broom = broom
        self._locations = locations
        self._every_secs = max(1.0, every_secs)
        self._clock = clock
        self._look_again_at = clock()
        self._complaints = Complaints("sweep")
        self._asked = asyncio.Event()
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Sweep now, then whenever asked to, and every ``every_secs``; for ever."""
        while True:
            self._asked.clear()
            await self.once()
            if not self._asked.is_set():
                self._done.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._every_secs)

    def ask(self) -> None:
        """Sweep soon: there is a new epoch to sweep under."""
        self._done.clear()
        self._asked.set()

    async def finish(self, within_secs: float) -> None:
        """Wait a little for a sweep that is due."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), within_secs)

    async def once(self) -> bool:
        """Sweep all revisions, each by itself; False if something went wrong. Never raises but when cancelled."""
        again = self._clock() >= self._look_again_at
        try:
            found = await self._locations()
        except Exception as error:
            self._complain(error)
            return False
        outcomes = [await self._sweep(location, again=again) for location in found]
        if not all(outcomes):
            return False
        if again:
            self._look_again_at = self._clock() + LOOK_AGAIN_EVERY_SECS
        self._complaints.settle()
        return True

    async def _sweep(self, location: Location, *, again: bool) -> bool:
        try:
            done = await self._broom.sweep(location, again_after=rows.LOOK_AGAIN_AFTER if again else None)
        except Exception as error:
            self._complain(error)
            return False
        if done:
            facts = {"intents": done.intents, "files": len(done.collected), "tombstones": done.tombstones}
            logger.info("swept", extra=facts | {"location_id": location.location_id, "epoch": location.epoch})
        return True

    def _complain(self, error: Exception) -> None:
        if not isinstance(error, AmpdError):
            logger.debug("unexpected failure of a sweep", exc_info=error)
            error = Unexpected.of(error)
        self._complaints.add(error)
