"""The extractors of a node, and the jobs that share them: how many there are, who may use how many, and how fast.

The decisions are :mod:`ampd_ray.node.scaling` and :mod:`ampd_ray.node.sharing`; what other workers of the cluster need
comes from the :mod:`~ampd_ray.actors.commons`.
"""

from __future__ import annotations

import logging
import time

from ampd_ray.actors.commons import Commons
from ampd_ray.actors.pool import Pool
from ampd_ray.materialize.state import TASKS_PER_EXTRACTOR
from ampd_ray.node.scaling import Bounds, Scaling
from ampd_ray.node.sharing import Ask, Needs, shares

logger = logging.getLogger(__name__)

IN_USE_SECS = 30.0  # a provider that was asked within that time may be asked now


class Crew:
    """``pool`` as it follows its work."""

    def __init__(self, pool: Pool, bounds: Bounds, commons: Commons | None = None):
        self.pool = pool
        self._scaling = Scaling(bounds)
        self._commons = commons or Commons()
        self._asked: dict[int, Ask] = {}
        self._used: dict[str, float] = {}  # when each provider was asked last
        pool.on_turn = self._turn
        pool.resize(self._scaling.wanted)

    def slots(self, job_id: int, ask: Ask) -> int:
        """How many tasks a job may have under way that asks for so many; it asks again and again, at last for none."""
        if not ask.wanted:
            self._asked.pop(job_id, None)
            return 0
        self._asked[job_id] = ask
        if not self.pool.size:
            self.pool.resize(1)
        return shares(self._asked, TASKS_PER_EXTRACTOR * max(1, self.pool.ready))[job_id]

    def share(self, provider: str) -> float:
        """The part of a provider's limits for the extractor that is about to ask it, of ours and of other workers."""
        self._used[provider] = time.monotonic()
        return 1 / max(1, self.pool.working + self._commons.others_at(provider))

    def _turn(self) -> None:
        now, pool = time.monotonic(), self.pool
        tasks = sum(ask.wanted for ask in self._asked.values())
        before = pool.size
        pool.resize(self._scaling.turn(now, pool.loads(), tasks, self._commons.allowed))
        if pool.size != before:
            facts = {
                "wanted": pool.size,
                "before": before,
                "ready": pool.ready,
                "pending": pool.pending,
                "tasks": tasks,
            }
            logger.info("extractors", extra=facts)
        in_use = [provider for provider, at in self._used.items() if now - at < IN_USE_SECS]
        # The one beside the coordinator has no CPU of its own.
        needs = Needs(pool.on_cpus, max(0, self._scaling.needed - 1), dict.fromkeys(in_use, pool.working))
        self._commons.tell(needs)
