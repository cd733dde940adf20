"""JSON-RPC over a Unix domain socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ampd_ray.errors import ProviderUnreachable
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.envelope import Answer
from ampd_ray.providers.failures import Failed, Failure
from ampd_ray.providers.http import of_exception
from ampd_ray.providers.json_stream import MessageStream
from ampd_ray.providers.multiplex import MultiplexedTransport

READ_BYTES = 1024 * 1024


def ipc_transport(endpoint: Endpoint, timeout_secs: float) -> MultiplexedTransport:
    """A transport that connects on first use."""

    async def connect() -> IpcChannel:
        return await IpcChannel.open(endpoint.path)

    return MultiplexedTransport(connect, timeout_secs)


class IpcChannel:
    """One open socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._messages = MessageStream()

    @classmethod
    async def open(cls, path: str) -> IpcChannel:
        """Connect. Raises ``Failed``."""
        try:
            return cls(*await asyncio.open_unix_connection(path, limit=READ_BYTES))
        except FileNotFoundError:
            raise Failed(Failure(ProviderUnreachable, "has no socket there")) from None
        except OSError as error:
            raise Failed(of_exception(error)) from None

    async def send(self, payload: bytes) -> None:
        """Send one message and a newline."""
        try:
            self._writer.write(payload + b"\n")
            await self._writer.drain()
        except OSError as error:
            raise Failed(of_exception(error)) from None

    async def receive(self) -> Sequence[Answer]:
        """Wait until at least one message is complete; empty at the end of the stream."""
        try:
            while chunk := await self._reader.read(READ_BYTES):
                if answers := self._messages.feed(chunk):
                    return answers
        except OSError as error:
            raise Failed(of_exception(error)) from None
        return []

    async def close(self) -> None:
        """Close the socket."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # the peer was faster
