"""A proxy before an S3 server that spoils requests: answers that are lost, bodies that are cut, 503 SlowDown.

``chosen`` says what happens to a request, by what it asks for and how often that was asked for before, so that a seed
gives the same faults in whatever order requests come. ``fired`` counts what really happened.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from io import BytesIO
from random import Random
from types import TracebackType
from typing import NamedTuple, Self

from aiohttp import ClientError, ClientSession, DummyCookieJar, TCPConnector, web
from yarl import URL

from tests.fakes.aside import aside

MOST_BYTES = 1 << 30  # of a body
CHUNK = 1 << 16
NOT_PASSED_ON = {"connection", "content-length", "date", "expect", "server", "transfer-encoding"}


class Fault(StrEnum):
    """What can go wrong with a request."""

    SLOW_DOWN = "503, nothing done"
    DENIED = "403, nothing done"
    CUT = "the connection ends in the middle of the body"
    HELD = "the body stops in its middle until the proxy ends"
    LOST = "done, and the connection ends before the answer"
    INTERNAL = "done, and the answer is 500"
    HALF_ANSWER = "done, and the connection ends in the middle of the answer"


class Asked(NamedTuple):
    """A request: its method, its path with the query, and how often the same came before."""

    method: str
    path: str
    before: int


Choice = Callable[[Asked], Fault | None]


def at_random(
    rate: float, seed: int, faults: tuple[Fault, ...], methods: tuple[str, ...] = ("PUT", "POST", "DELETE")
) -> Choice:
    """One of ``faults`` for a share of the requests of ``methods``."""

    def choose(asked: Asked) -> Fault | None:
        dice = Random(f"{seed} {asked}")
        return dice.choice(faults) if asked.method in methods and dice.random() < rate else None

    return choose


class FaultyS3:
    """The proxy; use it as an async context manager, or with :func:`faulty_s3`."""

    def __init__(self, upstream: str, chosen: Choice = lambda _: None) -> None:
        self.chosen = chosen
        self.url = ""
        self.fired: Counter[Fault] = Counter()
        self.requests: Counter[str] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._upstream = upstream
        self._ended = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            cookie_jar=DummyCookieJar(), auto_decompress=False, connector=TCPConnector(limit=0), trust_env=False
        )
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.raw_path, self._seen[request.method, request.raw_path])
        self._seen[request.method, request.raw_path] += 1
        self.requests[request.method] += 1
        fault = self.chosen(asked)
        if fault in (Fault.CUT, Fault.HELD):
            return await self._cut(request, fault)
        if fault is not None:
            self.fired[fault] += 1
        if fault in (Fault.SLOW_DOWN, Fault.DENIED):
            await request.read()
            return _error(503, "SlowDown") if fault is Fault.SLOW_DOWN else _error(403, "AccessDenied")
        answer = await self._passed_on(request)
        match fault:
            case Fault.INTERNAL:
                return _error(500, "InternalError")
            case Fault.LOST:
                return _aborted(request)
            case Fault.HALF_ANSWER:
                return await _half(request, answer)
        return answer

    async def _passed_on(self, request: web.Request) -> web.Response:
        """The server's answer."""
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in NOT_PASSED_ON}
        url = URL(self._upstream + request.raw_path, encoded=True)
        body = BytesIO(await request.read())
        async with self._session.request(
            request.method, url, data=body, headers=headers, skip_auto_headers=("Content-Type", "User-Agent", "Accept"),
            allow_redirects=False,
        ) as answer:  # fmt: skip
            told = {name: value for name, value in answer.headers.items() if name.lower() not in NOT_PASSED_ON}
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                told["Content-Length"] = answer.headers["Content-Length"]  # of what a GET would give
                return web.Response(status=answer.status, headers=told)
            return web.Response(status=answer.status, headers=told, body=await answer.read())

    async def _cut(self, request: web.Request, fault: Fault) -> web.Response:
        """Pass half of the body on, then end both connections."""
        assert self._session is not None
        url = URL(self._upstream + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        with suppress(ClientError, OSError):
            await self._session.request(request.method, url, data=self._half_of(request, fault), headers=headers)
        return _aborted(request)

    async def _half_of(self, request: web.Request, fault: Fault) -> AsyncIterator[bytes]:
        left = (request.content_length or 0) // 2
        while left > 0 and (data := await request.content.read(min(left, CHUNK))):
            left -= len(data)
            yield data
        self.fired[fault] += 1
        if fault is Fault.HELD:
            await self._ended.wait()
        raise ConnectionAbortedError


def _error(status: int, code: str) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def _aborted(request: web.Request) -> web.Response:
    """No answer: the connection is reset."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _half(request: web.Request, answer: web.Response) -> web.StreamResponse:
    assert isinstance(answer.body, bytes)
    cut = web.StreamResponse(status=answer.status, headers=answer.headers)
    cut.content_length = len(answer.body)
    await cut.prepare(request)
    await cut.write(answer.body[: len(answer.body) // 2])
    return _aborted(request)


@contextmanager
def faulty_s3(upstream: str, chosen: Choice = lambda _: None) -> Iterator[FaultyS3]:
    """The proxy on a thread of its own."""
    with aside(lambda: FaultyS3(upstream, chosen)) as proxy:
        yield proxy
