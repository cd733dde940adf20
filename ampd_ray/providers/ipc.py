"""JSON-RPC over a Unix domain socket: a stream of JSON messages, mostly but not surely one a line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import msgspec

from ampd_ray.errors import ProviderUnreachable, ResponseTooLarge
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.envelope import Answer, decode
from ampd_ray.providers.failures import Failed, Failure, not_json
from ampd_ray.providers.http import MAX_BODY_BYTES, of_exception
from ampd_ray.providers.multiplex import MultiplexedTransport

READ_BYTES = 1024 * 1024

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)  # a whole string, or a bracket outside of strings


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


class MessageStream:
    """Cuts a byte stream into JSON messages, parsing each once in the usual case that a newline ends it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no message ends before this byte

    def feed(self, chunk: bytes) -> list[Answer]:
        """The messages that ``chunk`` completes. Raises ``Failed`` on what is not JSON, or far too much of it."""
        self._buffer += chunk
        if len(self._buffer) > MAX_BODY_BYTES:
            raise Failed(Failure(ResponseTooLarge, f"answered more than {MAX_BODY_BYTES >> 20} MiB"))
        answers: list[Answer] = []
        while (newline := self._buffer.find(b"\n", self._searched)) >= 0:
            self._take(newline + 1, answers)
        if chunk.rstrip()[-1:] in (b"}", b"]"):  # perhaps complete without a newline
            self._take(len(self._buffer), answers)
        return answers

    def _take(self, end: int, answers: list[Answer]) -> None:
        """Parse what lies before ``end``: mostly one message, else several glued together, or a part of one."""
        piece, rest = bytes(self._buffer[:end]).lstrip(), b""
        while piece:
            try:
                answers.append(decode(piece))
            except msgspec.DecodeError:
                message_end = _first_end(piece)
                if message_end is None:
                    break
                if not piece[message_end:].strip():
                    raise Failed(not_json(piece)) from None
                piece, rest = piece[:message_end], piece[message_end:].lstrip()
            else:
                piece, rest = rest, b""
        self._buffer[:end] = piece
        self._searched = len(piece)


def _first_end(text: bytes) -> int | None:
    """Where the first message of ``text`` ends; None if it goes on. Raises ``Failed`` if none begins here."""
    if text[:1] not in (b"{", b"["):
        raise Failed(not_json(text))
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    return None
