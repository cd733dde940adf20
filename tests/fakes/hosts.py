"""Hosts that are worse than absent: silent, dropping packets, talking nonsense; and directories that are full."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def dropping_host() -> Iterator[str]:
    """``host:port`` that drops every packet, as a firewall does: its queue of connections is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        waiting = []
        try:
            while True:
                waiting.append(socket.socket())
                waiting[-1].settimeout(0.3)
                try:
                    waiting[-1].connect(address)
                except TimeoutError:
                    break
            yield f"{address[0]}:{address[1]}"
        finally:
            for one in waiting:
                one.close()


@asynccontextmanager
async def talking_host(says: bytes | None) -> AsyncIterator[str]:
    """``host:port`` that accepts connections and answers ``says`` to the first bytes, or nothing ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if says is not None:
            writer.write(says)
            writer.close()
        else:
            await reader.read()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


@contextmanager
def small_disk(path: Path, kbytes: int, *options: str) -> Iterator[Path]:
    """A file system of its own at ``path``, for root; ``options`` are those of mount."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join([f"size={kbytes}k", "mode=0777", *options]), "tmpfs", path], check=True
    )
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
