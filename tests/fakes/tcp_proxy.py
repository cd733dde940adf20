"""A TCP proxy on loopback that can cut, swallow and restore what passes through it."""

import asyncio
from contextlib import suppress
from ssl import SSLContext
from types import TracebackType
from typing import Self

CHUNK = 1 << 16  # bytes


class TcpProxy:
    """Stands before ``host:port``; use it as an async context manager.

    ``cut`` drops all connections and refuses new ones, ``blackhole`` keeps them open but passes nothing on,
    ``resume`` ends both. ``connections`` counts those accepted, ``refused`` those turned away, ``passed`` the bytes.
    With ``tls`` it takes connections as a server of that certificate, and passes on what was encrypted.
    """

    def __init__(self, host: str, port: int, tls: SSLContext | None = None) -> None:
        self._target = (host, port)
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._limit: int | None = None
        self.host = "127.0.0.1"
        self.port = 0
        self.connections = 0
        self.refused = 0
        self.passed = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset every connection, and every new one at once."""
        self._refusing = True
        self.drop()

    def drop(self) -> None:
        """Reset the connections of now; new ones are served."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def blackhole(self, after: int = 0) -> None:
        """Accept everything, pass nothing on; from now, or once so many more bytes have passed."""
        self._limit = self.passed + after
        self._check_limit()

    def resume(self) -> None:
        """Serve again; what was swallowed meanwhile arrives late, as after a network fault."""
        self._refusing = False
        self._limit = None
        self._open.set()

    @property
    def silent(self) -> bool:
        """True while nothing is passed on."""
        return not self._open.is_set()

    def _check_limit(self) -> None:
        if self._limit is not None and self.passed >= self._limit:
            self._open.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            self.refused += 1
            writer.transport.abort()
            return
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pump both ways until either side ends."""
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            self._close(writer)
            return
        self._writers.add(far_writer)
        pumps = {
            asyncio.create_task(self._pump(reader, far_writer)),
            asyncio.create_task(self._pump(far_reader, writer)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._close(writer)
            self._close(far_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
                self.passed += len(data)
                self._check_limit()

    def _close(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()
