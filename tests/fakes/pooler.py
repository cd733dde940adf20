"""What a pooler does to a session: it takes the client's options away, so that the server's own defaults hold."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.conninfo import conninfo_to_dict


@asynccontextmanager
async def pooled(url: str) -> AsyncIterator[str]:
    """A URL of the database ``url``, whose server is on a local socket, through such a pooler."""
    info = conninfo_to_dict(url)
    path = f"{info['host']}/.s.PGSQL.{info.get('port') or 5432}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(path)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            length = int.from_bytes(await reader.readexactly(4), "big")
            up_writer.write(without_options(await reader.readexactly(length - 4)))
            pumps = {asyncio.ensure_future(pump(reader, up_writer)), asyncio.ensure_future(pump(up_reader, writer))}
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for each in (writer, up_writer):
            each.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://{info['user']}@127.0.0.1:{port}/{info['dbname']}?sslmode=disable&gssencmode=disable"


def without_options(startup: bytes) -> bytes:
    """The start-up packet, its length in front, without the parameter ``options``."""
    words = startup[4:].rstrip(b"\0").split(b"\0")
    pairs = [pair for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != b"options"]
    body = startup[:4] + b"".join(key + b"\0" + value + b"\0" for key, value in pairs) + b"\0"
    return (len(body) + 4).to_bytes(4, "big") + body


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
