"""A JSON-RPC node that misbehaves as told: it answers from a devnet chain until a fault is due.

``node.inject(Fault.TOO_MANY, times=2, method="eth_getBlockReceipts")`` spoils the next two requests that hold such a
call; ``node.alter("eth_getBlockByNumber", change)`` rewrites results. ``node.fired`` counts what really happened.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from ampd_ray.devnet.chain import DevChain
from ampd_ray.devnet.rpc import DevRpc

FOREVER = 1 << 62


class Fault(StrEnum):
    """What can go wrong with one HTTP request."""

    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    TOO_LARGE = "413"
    TOO_MANY = "429 with Retry-After"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    HTML = "HTML in a 200"
    TRUNCATED = "half of the JSON"
    EMPTY = "nothing in a 200"
    RESET = "connection closed without an answer"
    HANG = "no answer until the node stops"
    LIMIT_IN_200 = "-32005 for every call"
    INTERNAL = "-32603 for every call"
    NO_METHOD = "-32601 for every call"
    NULL = "null for every call"
    SHUFFLED = "answers in another order"
    WRONG_IDS = "ids that nobody asked for"
    MISSING_ANSWER = "one answer less"
    DUPLICATE_ANSWER = "one answer twice"
    DROPPED_RECEIPT = "one receipt less"
    NO_RECEIPTS = "an empty list of receipts"
    WRONG_CHAIN = "another chain id"


STATUS = {
    Fault.UNAUTHORIZED: 401,
    Fault.FORBIDDEN: 403,
    Fault.TOO_LARGE: 413,
    Fault.TOO_MANY: 429,
    Fault.SERVER_ERROR: 500,
    Fault.UNAVAILABLE: 503,
}
ERROR = {
    Fault.LIMIT_IN_200: (-32005, "limit exceeded"),
    Fault.INTERNAL: (-32603, "internal error"),
    Fault.NO_METHOD: (-32601, "the method does not exist/is not available"),
}
RESULT: dict[Fault, tuple[str | None, Callable[[Any], Any]]] = {  # of which method, and how it changes
    Fault.NULL: (None, lambda _: None),
    Fault.DROPPED_RECEIPT: ("eth_getBlockReceipts", lambda receipts: receipts[:-1]),
    Fault.NO_RECEIPTS: ("eth_getBlockReceipts", lambda _: []),
    Fault.WRONG_CHAIN: ("eth_chainId", lambda _: "0xdead"),
}


@dataclass
class Planned:
    """A fault that waits for its request."""

    fault: Fault | None  # None: only ``change``
    method: str | None
    left: int
    change: Callable[[Any], Any] | None = None
    retry_after: str = "1"


class FaultyRpc:
    """The node; use it as an async context manager."""

    def __init__(self, chain: DevChain) -> None:
        self.rpc = DevRpc(chain)
        self.fired: Counter[str] = Counter()
        self.requests: list[web.Request] = []
        self.url = ""
        self._planned: list[Planned] = []
        self._stopped = asyncio.Event()
        self._runner: web.AppRunner | None = None

    def inject(self, fault: Fault, *, times: int = 1, method: str | None = None, retry_after: float | str = 1) -> None:
        """Spoil the next ``times`` requests that hold a call of ``method`` (None: any), in the order of injection."""
        self._planned.append(Planned(fault, method, times, retry_after=str(retry_after)))

    def alter(self, method: str, change: Callable[[Any], Any], *, times: int = FOREVER) -> None:
        """Answer ``change(result)`` in the next ``times`` requests that call ``method``; counted as ``method``."""
        self._planned.append(Planned(None, method, times, change))

    def heal(self) -> None:
        """Forget what has not happened yet."""
        self._planned.clear()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/{path:.*}", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        body = await request.read()
        calls = json.loads(body)
        answer = json.loads(self.rpc.answer(body))
        planned = self._due(calls if isinstance(calls, list) else [calls])
        if planned is None:
            return web.json_response(answer)
        self.fired[planned.fault or str(planned.method)] += 1
        if planned.fault in (Fault.RESET, Fault.HANG):
            return await self._silence(request, planned.fault)
        return respond(planned, calls, answer)

    def _due(self, calls: list[Any]) -> Planned | None:
        methods = {call.get("method") for call in calls}
        for planned in self._planned:
            if planned.left > 0 and (planned.method is None or planned.method in methods):
                planned.left -= 1
                return planned
        return None

    async def _silence(self, request: web.Request, fault: Fault) -> web.Response:
        if fault is Fault.HANG:
            await self._stopped.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


def respond(planned: Planned, calls: Any, answer: Any) -> web.Response:
    """The spoiled response to ``calls``, whose right one is ``answer`` (a list each for a batch)."""
    fault = planned.fault
    if fault in STATUS:
        headers = {"Retry-After": planned.retry_after} if fault in (Fault.TOO_MANY, Fault.UNAVAILABLE) else {}
        return web.Response(status=STATUS[fault], text=fault, headers=headers)
    if fault is Fault.HTML:
        return web.Response(text="<html><body>Please log in</body></html>", content_type="text/html")
    if fault is Fault.EMPTY:
        return web.Response(content_type="application/json")
    if fault is Fault.TRUNCATED:
        text = json.dumps(answer)
        return web.Response(text=text[: len(text) // 2], content_type="application/json")
    if not isinstance(calls, list):
        return web.json_response(spoil(planned, [calls], [answer])[0])
    return web.json_response(spoil(planned, calls, answer))


def spoil(planned: Planned, calls: list[Any], answers: list[Any]) -> list[Any]:
    """The answers of a batch with the fault in them; a single call is a batch of one."""
    match planned.fault:
        case Fault.SHUFFLED:
            return random.Random(len(answers)).sample(answers, len(answers))
        case Fault.MISSING_ANSWER if len(answers) > 1:
            return answers[1:]
        case Fault.DUPLICATE_ANSWER:
            return [*answers, answers[0]]
        case Fault.WRONG_IDS | Fault.MISSING_ANSWER:
            return [{**answer, "id": 10**9 + index} for index, answer in enumerate(answers)]
        case fault if fault in ERROR:
            code, message = ERROR[fault]
            return [{"jsonrpc": "2.0", "id": a["id"], "error": {"code": code, "message": message}} for a in answers]
    method, change = RESULT[planned.fault] if planned.fault else (None, planned.change)
    method = planned.method or method
    assert change is not None
    return [
        {**answer, "result": change(answer["result"])} if method in (None, call["method"]) else answer
        for call, answer in zip(calls, answers, strict=True)
    ]
