"""JSON-RPC over HTTP: one POST per request on kept-alive connections."""

from __future__ import annotations

import aiohttp
from yarl import URL

from ampd_ray import __version__
from ampd_ray.errors import MalformedResponse, ProviderError, ProviderUnreachable
from ampd_ray.providers import failures
from ampd_ray.providers.bodies import Bodies, check_size
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.envelope import Answer, Request, skim_or_fail
from ampd_ray.providers.failures import Failed, Failure

ERROR_BODY_BYTES = 64 * 1024
CONNECT_SECS = 10.0

NOT_TRUSTED = Failure(ProviderError, "is not trusted: the TLS handshake failed", final=True)


class HttpTransport:
    """Open from the first exchange to :meth:`close`."""

    def __init__(self, endpoint: Endpoint, timeout_secs: float) -> None:
        self._url = URL(endpoint.url)
        self._timeout = aiohttp.ClientTimeout(total=timeout_secs, sock_connect=min(CONNECT_SECS, timeout_secs))
        # Compression costs more CPU than a local link costs time.
        encoding = "identity" if endpoint.is_loopback else "gzip"
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": encoding,
            "User-Agent": f"ampd-ray/{__version__}",
        } | endpoint.headers
        self._bodies = Bodies()
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, request: Request) -> Answer:
        """Send a request and parse its answer. Raises ``Failed``."""
        try:
            async with self._open().post(self._url, data=request.payload, allow_redirects=False) as response:
                retry_after = failures.retry_after_of(response.headers.get("Retry-After"))
                if response.status != 200:
                    body = await response.content.read(ERROR_BODY_BYTES)
                    raise Failed(failures.of_status(response.status, retry_after, body))
                check_size(response.content_length or 0)
                async with self._bodies.gathered(response.content.iter_any()) as body:
                    return skim_or_fail(body, retry_after)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # The cause is left out on purpose: its text may hold the URL.
            raise Failed(of_exception(error)) from None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the limiter bounds them
                timeout=self._timeout,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=1024 * 1024,
            )
        return self._session


# What went wrong below JSON-RPC, in words of our own; the first that fits. An exception's text may hold the URL.
_BELOW: tuple[tuple[type[BaseException], Failure], ...] = (
    (TimeoutError, Failure(ProviderUnreachable, "did not answer in time", timed_out=True)),
    (ConnectionRefusedError, Failure(ProviderUnreachable, "refused the connection")),
    (aiohttp.ClientConnectorDNSError, Failure(ProviderUnreachable, "cannot be found: its name does not resolve")),
    (aiohttp.ClientConnectorCertificateError, NOT_TRUSTED),
    (aiohttp.ClientConnectorSSLError, NOT_TRUSTED),
    (aiohttp.ClientConnectorError, Failure(ProviderUnreachable, "cannot be reached")),
    (aiohttp.ClientPayloadError, Failure(ProviderUnreachable, "broke off in the middle of an answer")),
    (aiohttp.ClientResponseError, Failure(MalformedResponse, "answered something that is not HTTP")),
    (aiohttp.InvalidURL, Failure(ProviderError, "has a url that cannot be used", final=True)),
    (aiohttp.ClientError, Failure(ProviderUnreachable, "dropped the connection")),
    (OSError, Failure(ProviderUnreachable, "dropped the connection")),
)


def of_exception(error: Exception) -> Failure:
    """The class of an exception of aiohttp or of a socket."""
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return failures.of_status(error.status, None, b"")
    inner = getattr(error, "os_error", None)
    seen = inner if isinstance(inner, ConnectionRefusedError) else error
    fitting = (failure for kind, failure in _BELOW if isinstance(seen, kind))
    return next(fitting, Failure(ProviderError, "cannot be asked: its url or token is malformed", final=True))
