"""The life of one Amp node, from its first connection to its exit code (``spec/metadata-db.md`` 6).

A plain class: an actor wraps it, tests construct it. It never decodes and never opens a table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from ampd_ray import failpoints
from ampd_ray.config import Settings, check_directories
from ampd_ray.datasets import names
from ampd_ray.errors import AmpdError, Fenced
from ampd_ray.log import bind
from ampd_ray.materialize.patience import patiently
from ampd_ray.materialize.sweep import Broom
from ampd_ray.metadb import notifications, schema
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.takeover import Taker
from ampd_ray.node.claims import JobClaimer
from ampd_ray.node.counters import Counters
from ampd_ray.node.heartbeat import Heartbeat
from ampd_ray.node.housekeeping import Housekeeping
from ampd_ray.node.identity import Identity
from ampd_ray.node.job import JobFactory
from ampd_ray.node.lag import watch_loop_lag
from ampd_ray.node.leases import LeaseKeeper
from ampd_ray.node.preflight import reach_stores
from ampd_ray.node.runner import JobRunner
from ampd_ray.node.settle import Settler
from ampd_ray.node.takeover import IMPLEMENTATION, Takeover
from ampd_ray.node.watcher import UNPROVEN_EVERY, RowWatcher
from ampd_ray.store.files import open_store

_log: Final = logging.getLogger(__name__)

DRAIN_GRACE_SECS: Final = 3.0  # at most, three times at the end of a drain; a sixth of one that is short
LEAVE_SPARE_SECS: Final = 3.0  # of what a machine has left; the process has to end as well
_RESTART_SECS: Final = 1.0
POOLED: Final = (
    "a pooler in transaction mode stands before the metadata database: notifications do not get through, and no lock "
    "outlives its transaction. The jobs are read every %.0f s, and the node id is kept by its lease alone, which keeps "
    "no Amp worker away. Give metadata_db.url the database itself"
)


class Coordinator:
    """One node. ``run`` once, in a loop of its own process; ``ask_drain`` from that loop.

    ``info`` goes into ``workers.info`` beside what we add ourselves. ``incarnation`` names this process in leases;
    jobs commit under it, and have their leases kept by ``keeper``.
    """

    def __init__(
        self,
        settings: Settings,
        node_id: str,
        db_url: str,
        make_job: JobFactory,
        info: dict[str, str],
        *,
        incarnation: UUID | None = None,
    ) -> None:
        self.node_id = names.node_id(node_id)
        self.incarnation = incarnation or uuid4()
        self.counters = Counters()
        ours = settings.ampd_ray
        said = {**info, "implementation": IMPLEMENTATION, "failover_group": ours.failover_group}
        identity = Identity(node_id, self.incarnation, said)
        ttl = timedelta(seconds=ours.lease_ttl_secs)
        self.db = _database(settings, db_url, identity.session_name)
        self.keeper = LeaseKeeper(self.incarnation, self.counters, ttl)
        lock_timeout = timedelta(seconds=ours.node_lock_timeout_secs)
        self.heartbeat = Heartbeat(
            self.db, identity, self.counters, self.keeper, lock_timeout=lock_timeout, lease_ttl=ttl
        )
        retry_max = timedelta(seconds=ours.retry_max_secs)
        settler = Settler(self.db, node_id, self.incarnation, max_attempts=ours.retry_max_attempts, retry_max=retry_max)
        self.runner = JobRunner(self.db, node_id, make_job, settler, self.counters, self._end)
        self.watcher = RowWatcher(self.db, node_id, self.runner, timedelta(seconds=ours.reconcile_interval_secs))
        taker, decider = Taker(node_id, self.incarnation, ttl), Takeover(node_id, ours.failover_group, ours.max_jobs)
        self.claimer = JobClaimer(self.db, taker, decider, self.runner, settler)
        self._settings = settings
        self._db_url = db_url
        self._asked = asyncio.Event()
        self._asks = 0
        self._drain_secs = ours.drain_timeout_secs
        self._exit: asyncio.Future[int] | None = None

    async def run(self) -> int:
        """Live until drained (0), fenced (3) or cut short (1). Raises an ``AmpdError`` if it cannot start."""
        self._exit = asyncio.get_running_loop().create_future()
        with bind(node_id=self.node_id):
            if failpoints.armed():
                _log.warning("failpoints are armed: this node fails on purpose", extra={"by": failpoints.ARMS})
            try:
                if not await self._unless_asked(self._start(), self._exit):
                    return self._exit.result() if self._exit.done() else 0
                return await self._serve(self._exit)
            finally:
                await self.heartbeat.release()
                await self.db.close()

    def ask_drain(self) -> None:
        """End gracefully: finish and commit what can be finished, leave rows RUNNING. Asked again: end at once."""
        self._asks += 1
        if self._asks > 1:
            _log.warning("asked to end a second time: ending at once")
            self._end(1)
        self._asked.set()

    def leave(self, secs: float) -> None:
        """The machine goes in so many seconds: end gracefully before that. Nobody has asked for anything yet."""
        if not self._asked.is_set():
            _log.warning("the machine of this node goes in %.0f s: draining before that", secs)
            self._drain_secs = min(self._drain_secs, secs - min(LEAVE_SPARE_SECS, secs / 4))
            self._asked.set()

    async def abandon(self) -> None:
        """Give the node up, then end: this process is about to be killed, and a peer need not wait for that to show.

        What is under way is cut off. A commit of it comes before a peer takes the leases, or fails by its epoch.
        """
        await self.heartbeat.release()
        self._end(1)

    # -- start --------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Steps 2 to 4: database, schema, stores, identity. A database that is away meanwhile is waited for."""
        within = timedelta(seconds=self._settings.ampd_ray.connect_timeout_secs)
        await schema.ensure(self._db_url, self._settings.metadata_db.auto_migrate, within=within)
        await self.db.open(within)
        await asyncio.to_thread(check_directories, self._settings)
        await reach_stores(self._settings)
        direct = await patiently(lambda: notifications.supports_listen(self.db), within.total_seconds())
        if not direct:
            self.watcher.polling = True
            _log.warning(POOLED, UNPROVEN_EVERY.total_seconds())
        await patiently(lambda: self.heartbeat.start(direct=direct), within.total_seconds())

    async def _unless_asked(self, work: Awaitable[None], end: asyncio.Future[int]) -> bool:
        """True when ``work`` is done; false if the process was asked to end, or given up, before that."""
        working, asked = asyncio.ensure_future(work), asyncio.ensure_future(self._asked.wait())
        try:
            first: set[asyncio.Future[Any]] = {working, asked, end}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            return working.done()
        finally:
            working.cancel()
            asked.cancel()
            await asyncio.gather(working, asked, return_exceptions=True)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def _serve(self, end: asyncio.Future[int]) -> int:
        """Steps 5 to 11. Each service runs by itself, so that none waits for another."""
        services = {
            "heartbeat": self.heartbeat.run,
            "listen": self.watcher.listen,
            "reconcile": self.watcher.reconcile,
            "leases": self.keeper.watch,
            "loop lag": lambda: watch_loop_lag(self.counters),
            "sweep": self._housekeeping().run,
            "drain": self._drain,
        }
        if self._settings.ampd_ray.takeover:
            services["take-over"] = self.claimer.run
        tasks = [asyncio.create_task(self._keep(name, service), name=name) for name, service in services.items()]
        _log.info("node is up", extra={"incarnation": self.incarnation, "database": self.db.name})
        try:
            code = await end
        finally:
            await self.runner.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        _log.info("node ends", extra={"code": code})
        return code

    def _housekeeping(self) -> Housekeeping:
        store = open_store(self._settings.data_dir)
        broom = Broom(self.db, store, collect=self._settings.writer.collector.collects)
        return Housekeeping(broom, self.db, self._settings.ampd_ray.failover_group)

    async def _keep(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """Run a service for as long as the node lives: nothing that goes wrong in it ends the process but a fence."""
        while True:
            try:
                return await service()
            except Fenced as error:
                _log.error("fenced", extra={"error": error})
                return self.runner.fenced()
            except AmpdError as error:
                _log.error("%s failed; starting it again", name, extra={"error": error})
            except Exception:
                _log.exception("%s failed unexpectedly; starting it again", name)
            await asyncio.sleep(_RESTART_SECS)

    async def _drain(self) -> None:
        """Commit for most of the time; in the rest of it drop what is open, cancel what lasts, and end the node."""
        await self._asked.wait()
        await failpoints.reach("draining")
        secs = self._drain_secs
        grace = min(DRAIN_GRACE_SECS, secs / 6)
        _log.info("draining", extra={"jobs": len(self.runner.state.tasks), "within_secs": secs})
        self.runner.drain(secs - 3 * grace, grace)
        cut_at = asyncio.get_running_loop().time() + secs - grace / 2
        try:
            await self.heartbeat.retire()
        except Fenced:
            raise
        except AmpdError as error:
            _log.warning("the node could not be marked as draining", extra={"error": error})
        await asyncio.sleep(cut_at - asyncio.get_running_loop().time())
        if not self.runner.runs:
            _log.warning("the database is away: rows of jobs that have ended are not read again")
            self._end(self.runner.state.exit_code)
        else:
            _log.error("drain cut short", extra={"jobs": sorted(self.runner.runs)})
            self._end(1)

    def _end(self, code: int) -> None:
        if self._exit is not None and not self._exit.done():
            self._exit.set_result(code)


def _database(settings: Settings, url: str, application_name: str) -> Database:
    pool = settings.metadata_db
    return Database(
        url,
        application_name=application_name,
        pool_size=pool.pool_size,
        min_connections=pool.min_connections,
        max_lifetime=timedelta(seconds=pool.max_lifetime_secs),
        idle_timeout=timedelta(seconds=pool.idle_timeout_secs),
    )
