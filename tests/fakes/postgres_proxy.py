"""A TCP proxy before a Postgres server, local socket or not, that can swallow one direction, be cut, or refuse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class PostgresProxy:
    """Forwards connections to an upstream.

    Counts connections, those refused because ``connect`` raised OSError, and the bytes that were swallowed. Those
    that ever sent one of ``marks`` are known by it.
    """

    def __init__(self, connect: Connect, marks: tuple[bytes, ...] = ()) -> None:
        self.connect = connect
        self.marks = marks
        self.connections = 0
        self.refused = 0
        self.swallowed = 0
        self.port = 0
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self) -> int:
        """Reset every connection; how many there were."""
        links = list(self._links)
        for link in links:
            link.abort()
        await asyncio.gather(*(link.done.wait() for link in links))
        return len(links)

    def go_silent(self, *, answers_only: bool = False, mark: bytes | None = None) -> int:
        """Have the connections of now swallow all that is sent, or answers only, though they stay open.

        How many there are; only those of ``mark``, if it is given.
        """
        links = [link for link in self._links if mark is None or mark in link.marks]
        for link in links:
            link.silent = frozenset({"answers"} if answers_only else {"answers", "requests"})
        return len(links)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` on the counters holds."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _count(self, *, connections: int = 0, refused: int = 0, swallowed: int = 0) -> None:
        async with self._changed:
            self.connections += connections
            self.refused += refused
            self.swallowed += swallowed
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await self.connect()
        except OSError:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            await self._count(refused=1)
            return
        link = _Link(writer, upstream_writer)
        self._links.add(link)
        await self._count(connections=1)
        pumps = [
            asyncio.create_task(self._pump(link, "requests", reader, upstream_writer)),
            asyncio.create_task(self._pump(link, "answers", upstream_reader, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        if "requests" in link.silent:
            await link.aborted.wait()  # that one side has gone is swallowed as well
        link.abort()
        await asyncio.gather(*pumps)
        await link.closed()
        self._links.discard(link)
        link.done.set()

    async def _pump(
        self, link: _Link, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if direction == "requests":
                    link.marks.update(mark for mark in self.marks if mark in data)
                if direction in link.silent:
                    await self._count(swallowed=len(data))
                    continue
                writer.write(data)
                await writer.drain()


class _Link:
    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.silent: frozenset[str] = frozenset()
        self.marks: set[bytes] = set()
        self.aborted = asyncio.Event()
        self.done = asyncio.Event()
        self._writers = writers

    def abort(self) -> None:
        self.aborted.set()
        for writer in self._writers:
            writer.transport.abort()

    async def closed(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def proxied(url: str, marks: tuple[bytes, ...] = ()) -> AsyncIterator[tuple[PostgresProxy, str]]:
    """A proxy before the server of ``url``, and the conninfo that goes through it."""
    info = conninfo_to_dict(url)
    host, port = str(info.get("host") or "localhost"), int(info.get("port") or 5432)
    if host.startswith("/"):
        proxy = PostgresProxy(lambda: asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}"), marks)
    else:
        proxy = PostgresProxy(lambda: asyncio.open_connection(host, port), marks)
    async with proxy:
        yield proxy, make_conninfo(url, host="127.0.0.1", port=proxy.port, sslmode="disable")
