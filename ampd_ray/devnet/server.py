"""The devnet as a process: HTTP and WebSocket on one loopback port, a head that may grow.

``DevnetServer`` runs inside a test's loop; ``run`` is the whole of ``ampd devnet``.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from aiohttp import WSCloseCode, WSMsgType, web

from ampd_ray.devnet.chain import TXS_PER_BLOCK, DevChain
from ampd_ray.devnet.rpc import FINALITY, DevRpc
from ampd_ray.errors import UsageError

MAX_REQUEST = 16 << 20  # bytes
COMPRESS_FROM = 1_400  # bytes: what fits a packet is sent as it is


class DevnetServer:
    """Serves ``chain``; every ``block_time`` seconds one more block (0: only on ``devnet_mine``)."""

    def __init__(
        self,
        chain: DevChain,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        block_time: float = 0.0,
        finality: int = FINALITY,
    ) -> None:
        self.rpc = DevRpc(chain, finality=finality)
        self._chain = chain
        self._host = host
        self._port = port
        self._block_time = block_time
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._miner: asyncio.Task[None] | None = None
        self._sockets: set[web.WebSocketResponse] = set()

    @property
    def chain(self) -> DevChain:
        """The served chain; change it on the server's own loop only."""
        return self._chain

    @property
    def url(self) -> str:
        """Where it listens, for HTTP."""
        return f"http://{self._host}:{self._port}"

    @property
    def ws_url(self) -> str:
        """Where it listens, for WebSocket."""
        return f"ws://{self._host}:{self._port}"

    def listen(self) -> None:
        """Take the port; who connects waits for ``start``. Raises ``UsageError`` if somebody has it."""
        try:
            self._socket = socket.create_server((self._host, self._port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {self._host}:{self._port} ({os.strerror(error.errno or 0)}): try another --port, "
                "or 0 for any free one"
            ) from None
        self._port = self._socket.getsockname()[1]

    async def start(self) -> Self:
        """Answer; takes the port, unless that is done."""
        if self._socket is None:
            self.listen()
        assert self._socket is not None
        app = web.Application(client_max_size=MAX_REQUEST)
        app.router.add_post("/", self._post)
        app.router.add_get("/", self._websocket)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        if self._block_time > 0:
            self._miner = asyncio.create_task(self._grow())
        return self

    async def stop(self) -> None:
        """End the listener and what is connected to it."""
        if self._miner is not None:
            self._miner.cancel()
            with suppress(asyncio.CancelledError):
                await self._miner
        for client in tuple(self._sockets):
            await client.close(code=WSCloseCode.GOING_AWAY)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _grow(self) -> None:
        while True:
            await asyncio.sleep(self._block_time)
            self._chain.mine()

    async def _post(self, request: web.Request) -> web.Response:
        body = self.rpc.answer(await request.read())
        if len(body) < COMPRESS_FROM or "gzip" not in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=body, content_type="application/json")
        packed = await asyncio.to_thread(gzip.compress, body, 1)
        return web.Response(body=packed, content_type="application/json", headers={"Content-Encoding": "gzip"})

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse(max_msg_size=MAX_REQUEST)
        await client.prepare(request)
        self._sockets.add(client)
        try:
            async for message in client:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await client.send_str(self.rpc.answer(message.data).decode())
        finally:
            self._sockets.discard(client)
        return client


def announce(url: str) -> None:
    """Tell whoever started this process where it listens."""
    print(f"LISTENING {url}", flush=True)


def run(
    *,
    port: int = 0,
    blocks: int = 0,
    block_time: float = 0.0,
    seed: int = 1,
    txs_per_block: int = TXS_PER_BLOCK,
    on_ready: Callable[[str], None] = announce,
    on_block: Callable[[int], None] = lambda number: None,
) -> None:
    """Serve a chain of blocks 0 to ``blocks`` until SIGINT or SIGTERM; ``on_ready`` gets the URL.

    Before that the port is taken and the chain is made, and ``on_block`` gets the number of each block.
    """
    server = DevnetServer(DevChain(seed, txs_per_block), port=port, block_time=block_time)
    asyncio.run(_serve(server, blocks, on_ready, on_block))


async def _serve(
    server: DevnetServer, blocks: int, on_ready: Callable[[str], None], on_block: Callable[[int], None]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server.listen()  # before a long chain is made for a port that somebody has
    try:
        while server.chain.head.number < blocks and not stop.is_set():
            server.chain.mine()
            on_block(server.chain.head.number)
            await asyncio.sleep(0)  # lets a signal in
        if not stop.is_set():
            await server.start()
            on_ready(server.url)
            await stop.wait()
    finally:
        await server.stop()
