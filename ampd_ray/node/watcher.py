"""Finds out which jobs to look at: notifications where they work, and a periodic pass that needs none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from datetime import timedelta
from typing import Final

from ampd_ray.errors import AmpdError, DatabaseUnavailable
from ampd_ray.materialize.patience import Complaints
from ampd_ray.metadb import jobs, notifications
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.node.answers import within
from ampd_ray.node.runner import JobRunner

_log: Final = logging.getLogger(__name__)

UNPROVEN_EVERY: Final = timedelta(seconds=5)  # between passes while LISTEN is not known to work
RETEST_EVERY: Final = timedelta(minutes=1)  # between tests whether LISTEN works
RETRY_EVERY: Final = timedelta(seconds=1)  # after a pass that failed
FIRST_LISTEN_WITHIN: Final = timedelta(seconds=5)
JITTER: Final = 0.1
LOG_EVERY: Final = 100  # of malformed notifications, after the first ones


class RowWatcher:
    """Tells ``runner`` what to read. A notification is only a hint: nothing is done on its word.

    ``polling``: notifications are known not to get through for now.
    """

    def __init__(self, db: Database, node_id: str, runner: JobRunner, interval: timedelta) -> None:
        self.counters = runner.counters
        self.polling = False
        self._db = db
        self._node_id = node_id
        self._runner = runner
        self._interval = interval
        self._listening = asyncio.Event()
        self._look_now = asyncio.Event()
        self._complaints = Complaints("the jobs cannot be read")

    async def listen(self) -> None:
        """Follow ``job_actions`` for ever. After each (re)connection all rows are read: hints may have been lost."""
        self._listening.clear()
        await self._proof()
        try:
            async for heard in notifications.listen(self._db.connect_session, notifications.JOB_ACTIONS):
                if isinstance(heard, notifications.Reconnected):
                    self.counters.listens += 1
                    self._listening.set()
                    self._look_now.set()
                else:
                    self._heard(heard.payload)
        finally:
            self._listening.clear()

    async def _proof(self) -> None:
        """Wait until notifications are known to get through: what was in their way may have been a bad moment."""
        if not self.polling and not await notifications.supports_listen(self._db):
            self.polling = True
            _log.warning(
                "notifications do not get through; the jobs are read every %.0f s", UNPROVEN_EVERY.total_seconds()
            )
        while self.polling:
            await asyncio.sleep(RETEST_EVERY.total_seconds())
            with contextlib.suppress(DatabaseUnavailable):  # which says nothing about it
                self.polling = not await notifications.supports_listen(self._db)
            if not self.polling:
                _log.warning("notifications get through now")

    async def reconcile(self) -> None:
        """Read all rows now and then for ever; LISTEN comes first, so that nothing falls between."""
        if not self.polling:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_LISTEN_WITHIN.total_seconds()):
                    await self._listening.wait()
        while True:
            self._look_now.clear()
            pause = await self._pass()
            with contextlib.suppress(TimeoutError):
                spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, protects nothing
                async with asyncio.timeout(pause.total_seconds() * spread):
                    await self._look_now.wait()

    async def _pass(self) -> timedelta:
        """One pass over this node's rows; returns the pause before the next one."""
        try:
            rows = await within(self._read())
        except AmpdError as error:
            self.counters.failed_reconciles += 1
            self._complaints.add(error)
            return RETRY_EVERY
        self._complaints.settle()
        self._runner.reconciled({row.job_id: row.status for row in rows})
        self.counters.reconciles += 1
        return self._interval if self._listening.is_set() else min(self._interval, UNPROVEN_EVERY)

    async def _read(self) -> list[JobRow]:
        async with self._db.connection() as conn:
            return await jobs.mine(conn, self._node_id)

    def _heard(self, payload: str) -> None:
        action = notifications.parse_job_action(payload)
        if action is None:
            self.counters.malformed_notifications += 1
            count = self.counters.malformed_notifications
            if count <= 10 or count % LOG_EVERY == 0:
                _log.warning(
                    "a malformed notification is ignored", extra={"payload": repr(payload[:200]), "count": count}
                )
        elif action.node_id == self._node_id:
            self.counters.notifications += 1
            self._runner.notified(action.job_id)
