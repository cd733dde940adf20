"""JSON-RPC over WebSocket."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from ampd_ray.errors import ResponseTooLarge
from ampd_ray.providers import bodies, failures
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.envelope import Answer, decode_or_fail
from ampd_ray.providers.failures import Failed, Failure
from ampd_ray.providers.http import of_exception
from ampd_ray.providers.multiplex import CLOSED, MultiplexedTransport

CLOSE_SECS = 1.0


def ws_transport(endpoint: Endpoint, timeout_secs: float) -> MultiplexedTransport:
    """A transport that connects on first use."""

    async def connect() -> WsChannel:
        return await WsChannel.open(endpoint)

    return MultiplexedTransport(connect, timeout_secs)


async def _refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Go where the provider file says, nowhere else: aiohttp would take our headers along."""
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise Failed(failures.of_status(response.status, None, b""))
    return response


class WsChannel:
    """One open WebSocket and the session that it needs."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._session = session
        self._socket = socket

    @classmethod
    async def open(cls, endpoint: Endpoint) -> WsChannel:
        """Connect, with the same headers as over HTTP. Raises ``Failed``."""
        session = aiohttp.ClientSession(
            headers=endpoint.headers, cookie_jar=aiohttp.DummyCookieJar(), middlewares=(_refuse_redirects,)
        )
        try:
            socket = await session.ws_connect(
                endpoint.url,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECS),
                max_msg_size=bodies.MAX_BODY_BYTES,
                decode_text=False,
            )
        except BaseException as error:
            await session.close()
            if isinstance(error, aiohttp.ClientError | TimeoutError | OSError | ValueError):
                raise Failed(of_exception(error)) from None
            raise
        return cls(session, socket)

    async def send(self, payload: bytes) -> None:
        """Send one text message."""
        try:
            await self._socket.send_frame(payload, aiohttp.WSMsgType.TEXT)
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(of_exception(error)) from None

    async def receive(self) -> Sequence[Answer]:
        """One message; control frames are answered by aiohttp."""
        message = await self._socket.receive()
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            return [decode_or_fail(message.data)]
        if self._socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            raise Failed(Failure(ResponseTooLarge, f"answered more than {bodies.MAX_BODY_BYTES >> 20} MiB"))
        raise Failed(CLOSED)

    async def close(self) -> None:
        """Close the socket and its session."""
        try:
            await self._socket.close()
        finally:
            await self._session.close()
