"""The coordinator actor: :class:`ampd_ray.node.coordinator.Coordinator` with jobs whose work is done by Ray actors."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from functools import cached_property

from ampd_ray import log
from ampd_ray.actors import driver_watch, package
from ampd_ray.actors.commons import ClusterCommons, Commons
from ampd_ray.actors.crew import Crew
from ampd_ray.actors.draining import departures
from ampd_ray.actors.driver_watch import Watched
from ampd_ray.actors.extractor import open_source
from ampd_ray.actors.machine import watch_machine
from ampd_ray.actors.placement import Placement, here, ray_nodes
from ampd_ray.actors.pool import Pool, extractor_pool, writer_pool
from ampd_ray.actors.ports import RayExtractors, RayWriters
from ampd_ray.config import Sealed, unseal
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.networks import chain_of
from ampd_ray.materialize.job import MaterializeJob
from ampd_ray.materialize.leaving import UNHURRIED_SECS, Leave
from ampd_ray.materialize.setup import Environment, JobSpec
from ampd_ray.materialize.types import WriterOptions
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.node.coordinator import Coordinator
from ampd_ray.node.scaling import Bounds
from ampd_ray.node.sizes import Sizes
from ampd_ray.providers.registry import usable
from ampd_ray.store.files import Store, open_store

logger = logging.getLogger(__name__)


class CoordinatorActor:
    """One Amp node on Ray. Nothing in this process decodes or encodes: its loop must turn for the heartbeat.

    ``driver`` is the process of this machine without which the node must not go on. None: it runs on another one, and
    Ray ends this process after it.
    """

    def __init__(self, settings: Sealed, node_id: str, info: dict[str, str], sizes: Sizes, driver: Watched | None):
        log.setup()
        self._driver = driver
        # Each failed call becomes an error of ours; Ray would print a traceback for each result that nobody wants now.
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        self._settings = settings
        self._node_id = node_id
        self._info = info
        self._sizes = sizes
        self._place = Placement.of(ray_nodes(), here(), settings.ampd_ray)
        self._extractors = extractor_pool(settings, sizes.extractors, self._place)
        self._data: Store
        self._manifests: Store

    @cached_property
    def _coordinator(self) -> Coordinator:
        """Made by the first call, as the stores are: why a constructor fails, Ray tells nobody but in words."""
        settings = unseal(self._settings, os.environ)
        return Coordinator(settings, self._node_id, settings.metadata_db.dsn(), self._make_job, self._info)

    @cached_property
    def _writers(self) -> Pool:
        return writer_pool(self._settings, self._sizes.writers, self._place, self._name, self._idle_secs)

    @cached_property
    def _crew(self) -> Crew:
        most, fewest = self._sizes.extractors, self._sizes.fewest
        return Crew(
            self._extractors,
            Bounds(most if fewest is None else fewest, most, self._idle_secs),
            commons=Commons() if fewest is None else ClusterCommons(self._name, self._place.beside),
        )

    @property
    def _name(self) -> str:
        return f"ampd-ray/{self._node_id}/{self._coordinator.incarnation}"

    @property
    def _idle_secs(self) -> float:
        """On a Ray of our own nobody else wants what is idle."""
        return math.inf if self._sizes.fewest is None else self._settings.ampd_ray.extractor_idle_secs

    async def run(self) -> int:
        """Live until drained; the exit code. Raises an ``AmpdError`` if the node cannot start."""
        package.check(self._info["version"])
        self._data, self._manifests = (open_store(at) for at in (self._settings.data_dir, self._settings.manifests_dir))
        coordinator = self._coordinator
        watches = (self._outlive_nobody(), self._heed_notices(), watch_machine(self._settings.ampd_ray.spot_notice))
        watching = [asyncio.create_task(watch) for watch in watches]
        try:
            return await coordinator.run()
        finally:
            for watch in watching:
                watch.cancel()
            self._extractors.close()
            self._writers.close()

    async def ask_drain(self) -> None:
        """End gracefully; asked again, at once."""
        self._coordinator.ask_drain()

    async def _outlive_nobody(self) -> None:
        """Ray ends this process some seconds after its driver. Until then it would beat, and no peer take its jobs."""
        if self._driver is None:
            return
        try:
            await driver_watch.ended(self._driver)
        except OSError as error:
            logger.warning("the driver cannot be watched; Ray tells when it is gone", extra={"error": error})
            return
        logger.warning("the driver of this worker is gone: the node is given up")
        await self._coordinator.abandon()

    async def _heed_notices(self) -> None:
        """A Ray node that goes takes nothing along of which somebody knew in time."""
        clock = asyncio.get_running_loop().time
        async for departure in departures():
            told = clock()
            secs = UNHURRIED_SECS if departure.secs is None else departure.secs
            if departure.ray_node == here():
                await self._extractors.settle(Leave.within(secs).ends)
                self._coordinator.leave(secs - (clock() - told))
            else:
                self._extractors.leave(departure.ray_node, secs)
                self._writers.leave(departure.ray_node, secs)

    def _make_job(self, row: JobRow, descriptor: JobDescriptor) -> MaterializeJob:
        spec = JobSpec(row.job_id, self._coordinator.node_id, self._coordinator.incarnation, descriptor)
        extractors = RayExtractors(self._crew, row.job_id, descriptor.weight)
        return MaterializeJob(spec, self._environment(), extractors, RayWriters(self._writers))

    def _environment(self) -> Environment:
        settings = self._settings
        return Environment(
            db=self._coordinator.db,
            data=self._data,
            manifests=self._manifests,
            keeper=self._coordinator.keeper,
            choose_providers=lambda network, wanted: tuple(
                config.name for config in usable(settings.providers_dir, "evm-rpc", network, name=wanted)
            ),
            open_source=lambda provider, network: open_source(settings, provider, network),
            options=WriterOptions.of(settings.writer),
            flush_secs=settings.writer.segment_flush_interval_secs,
            poll_secs=settings.poll_interval_secs,
            memory_bytes=settings.ampd_ray.memory_bytes,
            lease_ttl_secs=settings.ampd_ray.lease_ttl_secs,
            sweep_every_secs=settings.writer.collector.min_interval,
            quarantine=settings.ampd_ray.quarantine,
            chain_of=lambda network: chain_of(network, settings.ampd_ray.networks),
            wholly=settings.ampd_ray.verify_unsupported == "fail",
        )
