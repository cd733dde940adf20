"""The same blocks over WebSocket and over a Unix socket, with many requests on one connection."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.devnet.chain import DevChain
from ampd_ray.devnet.rpc import DevRpc
from ampd_ray.errors import ProviderRefused, ProviderUnreachable
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.envelope import Call, encode
from ampd_ray.providers.evm_rpc import EvmRpcSource
from ampd_ray.providers.http import HttpTransport
from tests.fakes.providers import all_of, provider
from tests.fakes.rpc_time import FakeTime

SPAN = Span(0, 40)


class WsNode:
    """Answers over WebSocket; drops the connection after ``drop_after`` messages, refuses with ``status``."""

    def __init__(self, rpc: DevRpc) -> None:
        self.rpc = rpc
        self.drop_after = 1 << 30
        self.status = 101
        self.connections: list[web.Request] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.status != 101:
            return web.Response(status=self.status)
        self.connections.append(request)
        socket = web.WebSocketResponse(max_msg_size=1 << 26)
        await socket.prepare(request)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            self.drop_after -= 1
            if self.drop_after == 0:
                break
            await socket.send_str(self.rpc.answer(message.data).decode())
        return socket


class IpcNode:
    """Answers over a Unix socket, cutting what it writes into small pieces, with ``separator`` between messages."""

    def __init__(self, rpc: DevRpc, path: Path) -> None:
        self.rpc = rpc
        self.path = path
        self.separator = b"\n"
        self.connections = 0
        self.drop_after = 1 << 30

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while line := await reader.readline():
            self.drop_after -= 1
            if self.drop_after == 0:
                break
            data = self.rpc.answer(line) + self.separator
            for start in range(0, len(data), 1000):
                writer.write(data[start : start + 1000])
                await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture(scope="module")
def chain() -> DevChain:
    made = DevChain(seed=3)
    made.mine(40)
    return made


@pytest.fixture
async def ws_node(chain: DevChain) -> AsyncIterator[WsNode]:
    node = WsNode(DevRpc(chain))
    app = web.Application()
    app.router.add_get("/", node.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    node.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    yield node
    await runner.cleanup()


@pytest.fixture
async def ipc_node(chain: DevChain, tmp_path: Path) -> AsyncIterator[IpcNode]:
    node = IpcNode(DevRpc(chain), tmp_path / "node.ipc")
    server = await asyncio.start_unix_server(node.handle, node.path)
    yield node
    server.close()
    await server.wait_closed()


async def fetch(url: str, **settings: Any) -> list[BlockAndReceipts]:
    source = EvmRpcSource(provider(url, **settings), timing=FakeTime().timing)
    try:
        await source.start()
        return await all_of(source, SPAN)
    finally:
        await source.close()


def hashes(blocks: list[BlockAndReceipts]) -> list[str | None]:
    return [fetched.block.hash for fetched in blocks]


def expected(chain: DevChain) -> list[str]:
    return ["0x" + block.hash.hex() for number in range(41) if (block := chain.block(number)) is not None]


@pytest.mark.parametrize("batch", [0, 6])
async def test_blocks_over_websocket(ws_node: WsNode, chain: DevChain, batch: int) -> None:
    assert hashes(await fetch(ws_node.url, rpc_batch_size=batch, auth_token="s3cr3t")) == expected(chain)
    assert [request.headers["Authorization"] for request in ws_node.connections] == ["Bearer s3cr3t"]


async def test_a_lost_websocket_is_opened_again(ws_node: WsNode, chain: DevChain) -> None:
    ws_node.drop_after = 20
    assert hashes(await fetch(ws_node.url)) == expected(chain)
    assert len(ws_node.connections) == 2


async def test_a_websocket_refused_by_401(ws_node: WsNode) -> None:
    ws_node.status = 401
    with pytest.raises(ProviderRefused, match="HTTP 401"):
        await fetch(ws_node.url)


async def test_a_websocket_that_nobody_listens_on(unused_tcp_port: int) -> None:
    with pytest.raises(ProviderUnreachable, match="refused the connection"):
        await fetch(f"ws://127.0.0.1:{unused_tcp_port}")


@pytest.mark.parametrize("batch", [0, 6])
@pytest.mark.parametrize("separator", [b"\n", b""])
async def test_blocks_over_a_unix_socket(ipc_node: IpcNode, chain: DevChain, separator: bytes, batch: int) -> None:
    ipc_node.separator = separator
    assert hashes(await fetch(f"ipc://{ipc_node.path}", rpc_batch_size=batch)) == expected(chain)
    assert ipc_node.connections == 1


async def test_a_lost_unix_socket_is_opened_again(ipc_node: IpcNode, chain: DevChain) -> None:
    ipc_node.drop_after = 20
    assert hashes(await fetch(f"ipc://{ipc_node.path}")) == expected(chain)
    assert ipc_node.connections == 2


async def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnreachable, match=r"provider test_1 at none.ipc has no socket there"):
        await fetch(f"ipc://{tmp_path / 'none.ipc'}")


async def test_a_distant_host_may_compress(chain: DevChain) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Accept-Encoding"])
        response = web.Response(body=DevRpc(chain).answer(await request.read()), content_type="application/json")
        response.enable_compression(web.ContentCoding.gzip)
        return response

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    transport = HttpTransport(Endpoint("far", "http", "far.example", url, {}), 10)
    try:
        received = await transport.exchange(encode([Call("eth_getBlockByNumber", ["0x1", True], bytes)], [1]))
    finally:
        await transport.close()
        await runner.cleanup()
    assert seen == ["gzip"]
    assert received.size > 1000
