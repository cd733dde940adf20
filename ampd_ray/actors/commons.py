"""What the workers of one Ray cluster tell each other: how many CPUs each needs, and which providers it asks.

One small actor holds it, made by whoever comes first and gone with its maker; then the next turn makes another. It is
a hint and nothing else: a worker that hears nothing goes by its own needs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import ray

from ampd_ray.node.sharing import Needs, allowed

logger = logging.getLogger(__name__)

NAME = "ampd-ray-commons"
FORGET_SECS = 15.0  # three turns of whoever tells
ANSWER_SECS = 5.0


class CommonsActor:
    """Remembers what each worker told last."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, Needs]] = {}

    async def exchange(self, who: str, needs: Needs) -> dict[str, Needs]:
        """Take what one worker needs; what all others need who told of late."""
        now = time.monotonic()
        self._told[who] = now, needs
        self._told = {name: told for name, told in self._told.items() if now - told[0] < FORGET_SECS}
        return {name: told for name, (_, told) in self._told.items() if name != who}


class Commons:
    """A worker that has its Ray for itself: there are no others."""

    allowed: int | None = None

    def others_at(self, provider: str) -> int:
        """How many extractors of other workers ask a provider."""
        return 0

    def tell(self, needs: Needs) -> None:
        """What this worker needs now."""


class ClusterCommons(Commons):
    """The same among the workers of a cluster; ``place`` is where the actor goes if we are the first."""

    def __init__(self, who: str, place: Mapping[str, Any]):
        self._who = who
        self._place = place
        self._actor: Any = None
        self._others: Mapping[str, Needs] = {}
        self._telling: asyncio.Task[None] | None = None

    def others_at(self, provider: str) -> int:
        """How many extractors of other workers ask a provider."""
        return sum(needs.providers.get(provider, 0) for needs in self._others.values())

    def tell(self, needs: Needs) -> None:
        """What this worker needs now; unless it is still telling what it needed before."""
        self.allowed = allowed(needs, self._others)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(needs))

    async def _tell(self, needs: Needs) -> None:
        try:
            if self._actor is None:
                as_actor: Any = ray.remote(num_cpus=0, max_restarts=0)
                named = as_actor(CommonsActor).options(name=NAME, get_if_exists=True, **self._place)
                self._actor = await asyncio.to_thread(named.remote)
            async with asyncio.timeout(ANSWER_SECS):
                self._others = await self._actor.exchange.remote(self._who, needs)
        except Exception as error:
            logger.info("other workers of the cluster are not heard", extra={"error": type(error).__name__})
            self._others = {}
            if not isinstance(error, TimeoutError):  # it may be on its way; whoever lets go of its own ends it
                self._actor = None
