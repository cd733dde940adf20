"""What tells a busy actor from a hung one: a probe that passes by all calls that wait for a slot.

Ray runs a concurrency group on an event loop and a thread of its own. What answers there says that the process lives,
not that its calls go on; so the answer goes by way of the loop that those run on.
"""

from __future__ import annotations

import asyncio

import ray

PROBES = "probes"


class Probed:
    """Base of the actors of a pool, which are made with a concurrency group :data:`PROBES`."""

    _loop: asyncio.AbstractEventLoop | None = None

    def _work_here(self) -> None:
        """The running loop is the one that the actor's calls run on."""
        self._loop = asyncio.get_running_loop()

    @ray.method(concurrency_group=PROBES)
    async def turns(self) -> None:
        """Answers once the loop of the calls has made a turn."""
        assert self._loop is not None, "it is asked after it was ready"
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop))
