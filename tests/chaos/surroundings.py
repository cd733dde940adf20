"""What workers live in: a chain that grows, the node that serves it, and the lines to it and to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress

from ampd_ray.client.loop import LoopThread
from ampd_ray.devnet.chain import DevChain
from ampd_ray.devnet.server import DevnetServer
from tests.chaos.lines import DatabaseLine, RpcLine
from tests.chaos.plan import OfJob, Outside

BLOCK_SECS = 0.3
TXS_PER_BLOCK = 2
FINALITY = 32


class Surroundings:
    """All of it on one event loop in a thread of its own; every method may be called from elsewhere.

    ``node_url`` is the chain's own node, which nothing ever disturbs; ``calm`` and ``victim`` are the lines to it that
    the two kinds of jobs use.
    """

    def __init__(self) -> None:
        self._loop = LoopThread()
        self._chain = DevChain(1, TXS_PER_BLOCK)
        self._server = DevnetServer(self._chain, finality=FINALITY)
        self.calm, self.victim = RpcLine(self._chain), RpcLine(self._chain)
        self.lines: dict[str, DatabaseLine] = {}
        self._grows = False

    @property
    def node_url(self) -> str:
        """For whoever wants to know what the chain really is."""
        return self._server.url

    @property
    def head(self) -> int:
        """The number of the highest block."""
        return self._chain.head.number

    def mine(self, blocks: int) -> None:
        """Put blocks on top at once."""

        async def mine() -> None:
            for _ in range(blocks):
                self._chain.mine()
                await asyncio.sleep(0)  # whoever waits for an answer gets it

        self._loop.run(mine())

    def reorg(self, depth: int) -> None:
        """Replace the last ``depth`` blocks."""

        async def reorg() -> None:
            self._chain.reorg(depth)

        self._loop.run(reorg())

    def grow(self, yes: bool) -> None:
        """Let the chain grow by itself, or hold it where it is."""
        self._grows = yes

    def disturb(self, line: DatabaseLine, fault: Outside) -> None:
        """See ``DatabaseLine.disturb``."""
        self._loop.run(line.disturb(fault))

    def mend(self, line: DatabaseLine) -> None:
        """See ``DatabaseLine.mend``."""

        async def mend() -> None:
            line.mend()

        self._loop.run(mend())

    def disturb_rpc(self, fault: OfJob | None) -> None:
        """Disturb the victim's line to the node; None mends it."""
        self.victim.fault = fault

    @contextmanager
    def running(self, database_url: str, node_ids: tuple[str, ...]) -> Iterator[None]:
        """Serve, with a line to the database for each worker, until the block ends."""
        stack = AsyncExitStack()

        async def start() -> None:
            for context in (self._server, self.calm, self.victim):
                await stack.enter_async_context(context)
            for node_id in node_ids:
                self.lines[node_id] = await stack.enter_async_context(DatabaseLine(database_url))
            growing = asyncio.create_task(self._grow())
            stack.push_async_callback(_end, growing)

        try:
            self._loop.run(start())
            yield
        finally:
            self._loop.run(stack.aclose())
            self._loop.close()

    async def _grow(self) -> None:
        while True:
            await asyncio.sleep(BLOCK_SECS)
            if self._grows:
                self._chain.mine()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
