"""Servers that answer each request with whatever bytes a test makes up: over HTTP, WebSocket and a Unix socket.

They write until all is written or the client has gone; ``sent`` counts the bytes, ``requests`` the requests.
"""

import asyncio
import base64
import hashlib
import re
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

MIB = 1024 * 1024
_WS_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Chunks = Iterable[bytes]
Answer = Callable[[bytes], Chunks]  # what goes out for the JSON of a request


class Hostile:
    """One server. ``wrap`` puts a body into the transport's own framing; ``pause`` is the seconds between chunks."""

    def __init__(self, answer: Answer, pause: float = 0.0) -> None:
        self.answer = answer
        self.pause = pause
        self.url = ""
        self.sent = self.requests = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self.open(reader, writer)
            while True:
                request = await self.receive(reader)
                self.requests += 1
                for chunk in self.answer(request):
                    writer.write(chunk)
                    self.sent += len(chunk)
                    await asyncio.sleep(self.pause)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    def end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What comes before the first request."""

    async def receive(self, reader: asyncio.StreamReader) -> bytes:
        """The JSON of the next request: of a line."""
        line = await reader.readline()
        if not line:
            raise asyncio.IncompleteReadError(line, None)
        return line


class HostileHttp(Hostile):
    async def receive(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return await reader.readexactly(int(length[1])) if length else b""


class HostileWs(Hostile):
    async def open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
        assert key is not None
        accepted = base64.b64encode(hashlib.sha1(key[1] + _WS_KEY).digest())
        fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accepted
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\n")

    async def receive(self, reader: asyncio.StreamReader) -> bytes:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await reader.readexactly(2))
        mask = await reader.readexactly(4)
        payload = await reader.readexactly(size)
        if first & 0x0F == 8:
            raise asyncio.IncompleteReadError(b"", None)
        return bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def http_body(chunks: Chunks, *headers: bytes) -> Iterator[bytes]:
    """A 200 answer with a chunked body."""
    fields = b"\r\n".join([b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", *headers])
    yield fields + b"\r\n\r\n"
    for chunk in chunks:
        yield b"%x\r\n%s\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


def ws_message(chunks: Chunks) -> Iterator[bytes]:
    """A text message, one fragment per chunk."""
    opcode = 1
    for chunk in chunks:
        yield struct.pack(">BBQ", opcode, 127, len(chunk)) + chunk
        opcode = 0
    yield struct.pack(">BB", 0x80 | opcode, 0)


def line(chunks: Chunks) -> Iterator[bytes]:
    """A message that a newline ends."""
    yield from chunks
    yield b"\n"


FRAMED: dict[str, tuple[type[Hostile], Callable[[Chunks], Iterator[bytes]]]] = {
    "http": (HostileHttp, http_body),
    "ws": (HostileWs, ws_message),
    "ipc": (Hostile, line),
}


@asynccontextmanager
async def hostile(
    scheme: str, answer: Answer, folder: Path, *, raw: bool = False, pause: float = 0.0
) -> AsyncIterator[Hostile]:
    """A running server for ``scheme`` that sends ``answer(request)`` as a body, or as it is if ``raw``."""
    kind, frame = FRAMED[scheme]
    server = kind(answer if raw else lambda request: frame(answer(request)), pause)
    if scheme == "ipc":
        listening = await asyncio.start_unix_server(server.serve, folder / "node.ipc")
        server.url = f"ipc://{folder / 'node.ipc'}"
    else:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.url = f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    try:
        yield server
    finally:
        listening.close()
        server.end()
        await listening.wait_closed()
