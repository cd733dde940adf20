"""A simulated worker: its node, its jobs and its writers are the real ones; only its processes are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, DatabaseUnavailable, Fenced
from ampd_ray.materialize.job import MaterializeJob
from ampd_ray.materialize.setup import Environment, JobSpec
from ampd_ray.materialize.sweep import Broom
from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb import jobs, leases, workers
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.metadb.takeover import Taker
from ampd_ray.node.claims import JobClaimer
from ampd_ray.node.counters import Counters
from ampd_ray.node.housekeeping import Housekeeping
from ampd_ray.node.leases import LeaseKeeper
from ampd_ray.node.runner import JobRunner
from ampd_ray.node.settle import Settler
from ampd_ray.node.takeover import IMPLEMENTATION, Takeover
from tests.simulator.chain import ChainExtractors, ChainSource
from tests.simulator.writers import Writers

if TYPE_CHECKING:
    from tests.simulator.world import World

GROUP = "simulated"
INFO = {"implementation": IMPLEMENTATION, "failover_group": GROUP}
TTL = timedelta(seconds=4)
DRAIN_SECS = 5.0
DRAIN_GRACE_SECS = 2.0
BEAT_EVERY_SECS = 1.5
LOOK_EVERY_SECS = 5.0


class Node:
    """One incarnation of a node, from its start to its end."""

    def __init__(self, world: World, node_id: str, name: str):
        self.world = world
        self.process = world.process(name, node_id)
        self.node_id = node_id
        self.incarnation = self.process.incarnation = UUID(int=world.kernel.rng.getrandbits(128))
        self.draining = False
        self.writers = Writers(self)
        self.counters = Counters()
        self.db = world.database
        self._keeper = LeaseKeeper(self.incarnation, self.counters, TTL, clock=lambda: world.kernel.clock)
        settler = Settler(self.db, node_id, self.incarnation, max_attempts=20, retry_max=timedelta(seconds=5))
        self._runner = JobRunner(self.db, node_id, self._make_job, settler, self.counters, self._end)
        taker = Taker(node_id, self.incarnation, TTL)
        self._claimer = JobClaimer(self.db, taker, Takeover(node_id, GROUP), self._runner, settler)
        self._jobs: list[Watched] = []
        self._exit: asyncio.Future[int] | None = None
        world.kernel.spawn(self.process, self._live())

    @property
    def name(self) -> str:
        return self.process.name

    def drain(self) -> None:
        """SIGTERM."""
        self.draining = True
        self.world.kernel.spawn(self.process, self._drain())

    def notified(self, job_id: int) -> None:
        """The job's row has changed, or is about to."""

        async def soon() -> None:
            self._runner.notified(job_id)

        self.world.kernel.spawn(self.process, soon())

    def sweep(self) -> None:
        """Sweep now: what its jobs hold, and what nobody holds."""
        for job in self._jobs:
            job.ask_sweep()
        broom = Broom(self.db, self.world.store, collect=self.world.plan.collect_after_secs is not None)
        housekeeping = Housekeeping(broom, self.db, GROUP)
        self.world.kernel.spawn(self.process, housekeeping.once())

    # -- its life, as that of node.coordinator --------------------------------------------------------------------

    async def _live(self) -> None:
        self._exit = asyncio.get_running_loop().create_future()
        await self._persist(self._start)
        services = [self._beat, self._look, self._keeper.watch, self._claimer.run]
        tasks = [asyncio.create_task(self._keep(service)) for service in services]
        await self._exit
        await self._runner.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(AmpdError):  # what is left times out
            await self._give_up()
        self.process.kill()
        for writer in self.writers.all:
            writer.process.kill()

    async def _start(self) -> None:
        async with self.db.connection() as conn:
            await workers.take_node_lease(conn, self.node_id, self.incarnation, TTL)
            await workers.register(conn, self.node_id, INFO)

    async def _give_up(self) -> None:
        async with self.db.connection() as conn:
            await workers.retire(conn, self.node_id, self.incarnation)
            await leases.release(conn, self.incarnation)
            await workers.release_node_lease(conn, self.node_id, self.incarnation)

    async def _drain(self) -> None:
        self._runner.drain(DRAIN_SECS, DRAIN_GRACE_SECS)
        with suppress(AmpdError):
            async with self.db.connection() as conn:
                await workers.retire(conn, self.node_id, self.incarnation)
        await asyncio.sleep(DRAIN_SECS + 2 * DRAIN_GRACE_SECS)
        self._end(1)

    def _end(self, code: int) -> None:
        if self._exit is not None and not self._exit.done():
            self._exit.set_result(code)

    async def _keep(self, service: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                return await service()
            except Fenced:
                return self._runner.fenced()
            except AmpdError:
                await asyncio.sleep(1.0)

    async def _persist(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                return await call()
            except DatabaseUnavailable:
                await asyncio.sleep(1.0)

    async def _beat(self) -> None:
        """As node.heartbeat, but for the lock, of which there is none: two processes may well have one Node ID."""
        while True:
            with suppress(DatabaseUnavailable):
                async with self.db.connection() as conn:
                    if not self.draining:
                        await workers.beat(conn, self.node_id)
                    if not await workers.renew_node_lease(conn, self.node_id, self.incarnation, TTL):
                        raise Fenced(f"another process runs node {self.node_id}")
                    await self._keeper.renew(conn)
            await asyncio.sleep(BEAT_EVERY_SECS)

    async def _look(self) -> None:
        """As node.watcher without notifications."""
        while True:
            async with self.db.connection() as conn:
                mine = await jobs.mine(conn, self.node_id)
            self._runner.reconciled({row.job_id: row.status for row in mine})
            await asyncio.sleep(LOOK_EVERY_SECS)

    # -- its jobs ---------------------------------------------------------------------------------------------------

    def _make_job(self, row: JobRow, descriptor: JobDescriptor) -> Watched:
        world = self.world
        environment = Environment(
            db=self.db,
            data=world.store,
            manifests=world.store,
            keeper=self._keeper,
            choose_providers=lambda network, wanted: ("simulated",),
            open_source=lambda name, network: ChainSource(world.chain, world.kernel),
            options=world.plan.options,
            flush_secs=600.0,
            poll_secs=1.0,
            memory_bytes=64 << 20,
            lease_ttl_secs=TTL.total_seconds(),
            unit_blocks=world.plan.unit_blocks,
            second_look_secs=2.0,
            sweep_every_secs=world.plan.sweep_every_secs,
        )
        spec = JobSpec(row.job_id, self.node_id, self.incarnation, descriptor)
        extractors = ChainExtractors(world.chain, world.kernel, world.faults, tasks=2)
        job = Watched(self, MaterializeJob(spec, environment, extractors, self.writers))
        self._jobs.append(job)
        return job


class Watched:
    """A job whose end is counted."""

    def __init__(self, node: Node, job: MaterializeJob):
        self._node = node
        self._job = job
        self.stop = job.stop
        self.cancel = job.cancel

    def ask_sweep(self) -> None:
        """As the passing of time would."""
        self._job._sweeper.ask()

    async def run(self) -> JobOutcome:
        outcome = await self._job.run()
        world = self._node.world
        self._node.process.settles = True
        world.kernel.note(f"the run ends: {outcome.outcome.value} {getattr(outcome.error, 'code', '')}")
        world.faults.counts["fenced"] += outcome.outcome is Outcome.FENCED
        return outcome
