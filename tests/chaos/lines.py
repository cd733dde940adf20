"""The lines between a worker, its database and its node, each with a place where it can be disturbed.

All of it runs on one event loop. Each line counts what it really did, by the name of the fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from typing import Any, Self

from aiohttp import web
from psycopg.conninfo import conninfo_to_dict

from ampd_ray.devnet.chain import DevChain
from ampd_ray.devnet.rpc import DevRpc
from tests.chaos.plan import OfJob, Outside
from tests.fakes.postgres_proxy import PostgresProxy

LATENCY_SECS = 0.2  # for each packet
SLOW_SECS = 1.5  # for each answer
WRITER = b"/writer"  # in the application name of those sessions that commit segments
FETCHES = re.compile(rb'"eth_getBlockByNumber".*"0x([0-9a-f]+)",\s*true')  # one call a request
MAX_REQUEST = 16 << 20  # bytes


class DatabaseLine(PostgresProxy):
    """One worker's way to the server of ``url``: a local socket behind a port on loopback."""

    def __init__(self, url: str) -> None:
        info = conninfo_to_dict(url)
        self._socket = f"{info['host']}/.s.PGSQL.{info['port']}"
        super().__init__(self._dial)
        self.fired: Counter[Outside] = Counter()
        self.fault: Outside | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[Any] = set()  # links of sessions that commit segments

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.fault is Outside.CUT:
            self.fired[Outside.CUT] += 1
            raise OSError("the line is cut")
        return await asyncio.open_unix_connection(self._socket)

    async def disturb(self, fault: Outside) -> None:
        """From now on, until ``mend``; of COMMITs only the next is cut."""
        self.fault = fault
        if fault is Outside.CUT:
            self.fired[fault] += await self.cut()
        elif fault is Outside.BLACKHOLE:
            self._flows.clear()

    def mend(self) -> None:
        """All is well; what was held back arrives late."""
        self.fault = None
        self._flows.set()

    async def _pump(
        self, link: Any, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if direction == "requests":
                    if WRITER in data:
                        self._writers.add(link)
                    if self._cuts_commit(link, data):
                        if self.fault is Outside.COMMIT_UNSENT:
                            self._cut_one()
                            break
                        link.silent = frozenset({"answers"})
                elif link.silent:
                    self._cut_one()
                    break  # the server has answered: the transaction is committed
                await self._delay()
                writer.write(data)
                await writer.drain()
        self._writers.discard(link)

    def _cuts_commit(self, link: Any, data: bytes) -> bool:
        due = self.fault in (Outside.COMMIT_UNSENT, Outside.COMMIT_UNHEARD)
        return due and link in self._writers and b"COMMIT" in data

    def _cut_one(self) -> None:
        if self.fault is not None:
            self.fired[self.fault] += 1
            self.fault = None

    async def _delay(self) -> None:
        if self.fault is Outside.LATENCY:
            self.fired[Outside.LATENCY] += 1
            await asyncio.sleep(LATENCY_SECS)
        if not self._flows.is_set():
            self.fired[Outside.BLACKHOLE] += 1
            await self._flows.wait()


class RpcLine:
    """A node on loopback that serves ``chain``, whatever the path and headers, until it is disturbed.

    ``fetched`` are the blocks that were asked for with all in them, each answered after ``latency`` seconds.
    """

    def __init__(self, chain: DevChain) -> None:
        self.fired: Counter[OfJob] = Counter()
        self.fault: OfJob | None = None
        self.port = 0
        self.latency = 0.0
        self.fetched: list[int] = []
        self._rpc = DevRpc(chain)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=MAX_REQUEST)
        app.router.add_post("/{path:.*}", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        asked = await request.read()
        if number := FETCHES.search(asked):
            self.fetched.append(int(number[1], 16))
            await asyncio.sleep(self.latency)
        body = self._rpc.answer(asked)
        fault = self.fault
        if fault is None:
            return web.Response(body=body, content_type="application/json")
        self.fired[fault] += 1
        match fault:
            case OfJob.RPC_LIMIT:
                return web.Response(status=429, headers={"Retry-After": "1"})
            case OfJob.RPC_ERROR:
                return web.Response(status=500)
            case OfJob.RPC_SLOW:
                await asyncio.sleep(SLOW_SECS)
            case OfJob.RPC_HALF:
                body = body[: len(body) // 2]
            case _:
                if request.transport is not None:
                    request.transport.abort()
        return web.Response(body=body, content_type="application/json")
