"""Many requests on one connection, their answers told apart by id: what WebSocket and IPC have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from ampd_ray.errors import MalformedResponse, ProviderUnreachable, ResponseTooLarge
from ampd_ray.providers.envelope import Answer, Request
from ampd_ray.providers.failures import Failed, Failure

CLOSED = Failure(ProviderUnreachable, "closed the connection")


class Channel(Protocol):
    """An open connection. All methods raise ``Failed``."""

    async def send(self, payload: bytes) -> None:
        """Send one message."""

    async def receive(self) -> Sequence[Answer]:
        """The next messages; empty once the peer has closed."""

    async def close(self) -> None:
        """Close it; harmless when it is closed."""


class MultiplexedTransport:
    """Connects at the first exchange, and again at the next one after the connection was lost."""

    def __init__(self, connect: Callable[[], Awaitable[Channel]], timeout_secs: float) -> None:
        self._connect = connect
        self._timeout_secs = timeout_secs
        self._connecting = asyncio.Lock()
        self._channel: Channel | None = None
        self._reader: asyncio.Task[None] | None = None  # of the open channel
        self._readers: set[asyncio.Task[None]] = set()  # with those that are closing theirs
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._received = 0  # messages
        self._forsaken = False  # somebody has stopped waiting for an answer that may come yet

    async def exchange(self, request: Request) -> Answer:
        """Send a request and wait for the message with one of its ids. Raises ``Failed``."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        before = self._received
        try:
            async with asyncio.timeout(self._timeout_secs):
                channel = await self._open()
                self._pending.update(dict.fromkeys(request.ids, future))
                await channel.send(request.payload)
                return await future
        except TimeoutError:
            if self._received == before:
                await self._drop()  # nothing comes through at all: it may be half open
            raise Failed(Failure(ProviderUnreachable, "did not answer in time", timed_out=True)) from None
        finally:
            self._forsaken |= future.cancelled() or not future.done()
            for number in request.ids:
                self._pending.pop(number, None)

    async def close(self) -> None:
        """Close the connection."""
        await self._drop()
        if self._readers:
            await asyncio.wait(self._readers)

    async def _open(self) -> Channel:
        async with self._connecting:
            if self._channel is None:
                self._channel = await self._connect()
                self._forsaken = False
                self._reader = asyncio.create_task(self._read(self._channel))
                self._readers.add(self._reader)
                self._reader.add_done_callback(self._readers.discard)
            return self._channel

    async def _read(self, channel: Channel) -> None:
        failure = CLOSED
        try:
            while answers := await channel.receive():
                self._received += len(answers)
                for answer in answers:
                    self._deliver(answer)
        except Failed as error:
            failure = replace(error.failure, shared=error.failure.error is ResponseTooLarge and self._is_shared())
        finally:
            if self._channel is channel:
                self._channel = None
            self._fail_all(failure)
            await channel.close()

    def _deliver(self, answer: Answer) -> None:
        """Hand a message to whoever asked; one for nobody (late, or a notification) is dropped."""
        for reply in answer.replies:
            future = self._pending.get(reply.id) if isinstance(reply.id, int) else None
            if future is not None:
                if not future.done():
                    future.set_result(answer)
                return
        if any(reply.id is None and len(memoryview(reply.error)) for reply in answer.replies):
            # It could not read a request, and does not say which one.
            waiting = set(self._pending.values())
            if len(waiting) == 1:
                waiting.pop().set_result(answer)
            else:
                self._fail_all(Failure(MalformedResponse, "answered an error without an id"))

    def _is_shared(self) -> bool:
        """True unless what comes now can only be the answer to one request."""
        return self._forsaken or sum(not future.done() for future in set(self._pending.values())) > 1

    def _fail_all(self, failure: Failure) -> None:
        for future in set(self._pending.values()):
            if not future.done():
                future.set_exception(Failed(failure))

    async def _drop(self) -> None:
        reader, self._reader, self._channel = self._reader, None, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])
