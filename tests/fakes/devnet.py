"""A devnet on a thread and loop of its own, so that tests of any kind can talk to it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from ampd_ray.devnet.chain import DevChain
from ampd_ray.devnet.server import DevnetServer
from tests.fakes.http import rpc_call


@dataclass(frozen=True)
class Devnet:
    """A running devnet. Read ``chain`` freely while nothing mines; change it by ``mine``, ``reorg``, ``switch``."""

    server: DevnetServer

    @property
    def url(self) -> str:
        """Where it listens, for HTTP."""
        return self.server.url

    @property
    def ws_url(self) -> str:
        """Where it listens, for WebSocket."""
        return self.server.ws_url

    @property
    def chain(self) -> DevChain:
        """What it serves."""
        return self.server.chain

    def call(self, method: str, *params: Any) -> Any:
        """The result of one call; an error answer raises."""
        return rpc_call(self.url, method, *params)

    def mine(self, blocks: int = 1) -> None:
        """Put blocks on top."""
        self.call("devnet_mine", blocks)

    def reorg(self, depth: int) -> None:
        """Replace the last ``depth`` blocks by as many of another branch."""
        self.call("devnet_reorg", depth)

    def switch(self, digest: bytes) -> None:
        """Go back to the branch that ends in this block."""
        self.call("devnet_switch", f"0x{digest.hex()}")


@contextmanager
def devnet(
    blocks: int = 0, *, seed: int = 1, txs_per_block: int = 4, block_time: float = 0.0, finality: int = 64
) -> Iterator[Devnet]:
    """Serve blocks 0 to ``blocks`` until the block ends."""
    chain = DevChain(seed, txs_per_block)
    chain.mine(blocks)
    server = DevnetServer(chain, block_time=block_time, finality=finality)
    loop = asyncio.new_event_loop()
    ready, stop = Event(), asyncio.Event()
    thread = Thread(target=lambda: loop.run_until_complete(_serve(server, ready, stop)), daemon=True)
    thread.start()
    assert ready.wait(10), "the devnet did not start"
    try:
        yield Devnet(server)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _serve(server: DevnetServer, ready: Event, stop: asyncio.Event) -> None:
    async with server:
        ready.set()
        await stop.wait()
