"""A node that takes its time, on a chain that is always some way ahead, and that remembers what it was asked for."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web

from ampd_ray.devnet.chain import DevChain
from ampd_ray.devnet.rpc import DevRpc
from tests.fakes.aside import aside

MAX_REQUEST = 16 << 20  # bytes
AHEAD = 400  # blocks between the highest one that was fetched and the head
AT_A_TIME = 20  # blocks mined before others have their turn


class SlowNode:
    """Answers each request after ``latency`` seconds. ``fetched``: when each block was asked for with all in it."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.url = ""
        self.fetched: list[tuple[float, int]] = []
        self._chain = DevChain(1, 1)
        self._rpc = DevRpc(self._chain)

    def since(self, moment: float) -> set[int]:
        """The blocks that were fetched since a moment of ``time.monotonic``."""
        return {number for at, number in tuple(self.fetched) if at >= moment}

    def until(self, moment: float) -> set[int]:
        """The blocks that had been fetched by then."""
        return {number for at, number in tuple(self.fetched) if at < moment}

    @asynccontextmanager
    async def serving(self) -> Any:
        """Serve on the running loop."""
        app = web.Application(client_max_size=MAX_REQUEST)
        app.router.add_post("/", self._post)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        growing = asyncio.create_task(self._grow())
        try:
            yield self
        finally:
            growing.cancel()
            await asyncio.wait({growing})
            await runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        told = json.loads(body)
        now = time.monotonic()
        for call in told if isinstance(told, list) else [told]:
            if call["method"] == "eth_getBlockByNumber" and call["params"][1] and call["params"][0].startswith("0x"):
                self.fetched.append((now, int(call["params"][0], 16)))
        await asyncio.sleep(self.latency)
        return web.Response(body=self._rpc.answer(body), content_type="application/json")

    async def _grow(self) -> None:
        highest, seen = 0, 0
        while True:
            highest = max([highest, *(number for _, number in self.fetched[seen:])])
            seen = len(self.fetched)
            wanted = highest + AHEAD - self._chain.head.number
            for _ in range(min(wanted, AT_A_TIME)):
                self._chain.mine()
            await asyncio.sleep(0 if wanted > AT_A_TIME else 0.05)


@contextmanager
def slow_node(latency: float) -> Iterator[SlowNode]:
    """A slow node on a thread of its own, until the block ends."""
    with aside(SlowNode(latency).serving) as node:
        yield node
