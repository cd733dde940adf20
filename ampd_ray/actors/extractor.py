"""The extractor actor: :class:`ampd_ray.materialize.extract.Extractor` in a process of its own."""

from __future__ import annotations

import logging
import os

import ray

from ampd_ray import log
from ampd_ray.actors import package
from ampd_ray.actors.garbage import collected_if_it_fails, spare_the_collector
from ampd_ray.actors.probed import PROBES, Probed, Seen
from ampd_ray.config import Sealed
from ampd_ray.datasets.evm import native
from ampd_ray.datasets.networks import chain_of
from ampd_ray.materialize.extract import Extractor
from ampd_ray.materialize.leaving import Leave
from ampd_ray.materialize.types import Extract, ExtractSummary, RangeTask
from ampd_ray.providers.evm_rpc import EvmRpcSource
from ampd_ray.providers.registry import find_by_name

logger = logging.getLogger(__name__)


def open_source(settings: Sealed, provider: str, network: str) -> EvmRpcSource:
    """The source that the provider file ``provider`` describes, read anew for each source.

    It has to serve the chain that ``[ampd_ray.networks]`` gives for the network, else the one that its name means.
    """
    config = find_by_name(settings.providers_dir, provider).resolved(os.environ)
    return EvmRpcSource(config, expected_chain_id=chain_of(network, settings.ampd_ray.networks))


class ExtractorActor(Probed):
    """Fetches, checks and decodes; several tasks overlap, since fetching waits."""

    def __init__(self, settings: Sealed):
        log.setup()
        spare_the_collector()
        self._spot_notice = settings.ampd_ray.spot_notice
        if not native.available:
            logger.warning(
                "the compiled path is off or not built %s: blocks take about three times the CPU", package.origin()
            )
        self._extractor = Extractor(
            lambda provider, network: open_source(settings, provider, network),
            lambda provider: find_by_name(settings.providers_dir, provider),
        )

    async def ready(self) -> int:
        """Answers once the process runs: its pid."""
        self._work_here(self._spot_notice)
        return os.getpid()

    @ray.method(concurrency_group=PROBES)
    async def leave(self, secs: float) -> None:
        """Hand back what cannot be done before the Ray node goes."""
        assert self._loop is not None, "it is told after it was ready"
        self._loop.call_soon_threadsafe(self._extractor.leave, Leave.within(secs))

    async def _look(self) -> Seen:
        return Seen(self._extractor.load())

    @ray.method(num_returns=2)
    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Extract]:
        """The summary for the coordinator, the rows for a writer: two objects, so that rows travel by reference."""
        with collected_if_it_fails():
            return await self._extractor.extract(task)
