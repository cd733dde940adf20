"""What tells a busy actor from a hung one: a probe that passes by all calls that wait for a slot.

Ray runs a concurrency group on an event loop and a thread of its own. What answers there says that the process lives,
not that its calls go on; so the answer goes by way of the loop that those run on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import ray

from ampd_ray.actors import package
from ampd_ray.actors.machine import watch_machine
from ampd_ray.actors.placement import here
from ampd_ray.materialize.types import Load

PROBES = "probes"


@dataclass(frozen=True)
class Seen:
    """The answer to a probe: the ``load`` of one that extracts."""

    load: Load = field(default_factory=Load)


class Probed:
    """Base of the actors of a pool, which are made with a concurrency group :data:`PROBES`."""

    _loop: asyncio.AbstractEventLoop | None = None
    _watching: asyncio.Task[None] | None = None

    def _work_here(self, spot_notice: str = "off") -> None:
        """The running loop is the one that the actor's calls run on. Notices of the cloud are passed on from now."""
        self._loop = asyncio.get_running_loop()
        if self._watching is None:
            self._watching = asyncio.create_task(watch_machine(spot_notice))

    async def stands_on(self) -> str:
        """Its Ray node."""
        return here()

    @ray.method(concurrency_group=PROBES)
    async def leave(self, secs: float) -> None:
        """Its Ray node goes in so many seconds. Here nothing is to be done about that."""

    async def is_of_version(self, version: str) -> None:
        """Answers if our package is the driver's here. Raises ``PackageMismatch``."""
        package.check(version)

    @ray.method(concurrency_group=PROBES)
    async def turns(self) -> Seen:
        """Answers once the loop of the calls has made a turn."""
        assert self._loop is not None, "it is asked after it was ready"
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._look(), self._loop))

    async def _look(self) -> Seen:
        """What is to be told; on the loop of the calls."""
        return Seen()
