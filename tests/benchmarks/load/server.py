"""``python -m tests.benchmarks.load.server``: serve a mix over HTTP, with latency, a rate limit or errors if asked for.

A bare asyncio protocol: what it serves is serialised beforehand, so that a request costs it two copies.

==================  =================================================================================================
GET /               its counters as JSON, among them the bytes of all answers: proof that a client has read them all
GET /timeline       when each block appeared, was told and was asked for, see :mod:`tests.benchmarks.load.growth`
GET /grow/BLOCKS    let so many more blocks appear, one each ``--grow-every-ms``
==================  =================================================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.load.blocks import MIXES, Chain, templates
from tests.benchmarks.load.growth import Growth
from tests.fakes.places import CHAIN_DATA

CHAIN_ID: Final = 1
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_REASONS: Final = {200: b"OK", 429: b"Too Many Requests", 500: b"Internal Server Error"}


@dataclass
class Counters:
    """Since the start: HTTP requests, calls in them, blocks and bytes that were answered, errors on purpose."""

    requests: int = 0
    calls: int = 0
    blocks: int = 0
    bytes: int = 0
    errors: int = 0


@dataclass
class Manners:
    """How the node behaves: seconds until it answers, requests a second that it takes, the share that fails."""

    latency_secs: float = 0.0
    rate: float = float("inf")
    error_rate: float = 0.0


class Node:
    """Answers calls out of a chain, which ``growth`` may make longer."""

    def __init__(self, growth: Growth, manners: Manners) -> None:
        self.growth = growth
        self.chain = growth.chain
        self.counters = Counters()
        self.manners = manners
        self._chance = random.Random(1)
        self._tokens, self._filled_at = 1.0, time.monotonic()

    def refusal(self) -> int | None:
        """The HTTP status of a request that is not served."""
        manners, now = self.manners, time.monotonic()
        self._tokens = min(self._tokens + (now - self._filled_at) * manners.rate, max(1.0, manners.rate / 10))
        self._filled_at = now
        if self._tokens < 1:
            return 429
        self._tokens -= 1
        return 500 if self._chance.random() < manners.error_rate else None

    def look(self, path: str) -> Any:
        """What a GET of ``path`` answers."""
        match path.strip("/").split("/"):
            case ["timeline"]:
                return asdict(self.growth.timeline)
            case ["grow", blocks]:
                return self.growth.grow(int(blocks))
        return asdict(self.counters)

    def answer(self, body: bytes) -> list[bytes]:
        """The pieces of the answer to one call or a batch of them."""
        asked: Any = json.loads(body)
        if isinstance(asked, dict):
            return self._one(asked)
        pieces = [b"["]
        for call in asked:
            pieces += self._one(call)
            pieces.append(b",")
        pieces[-1] = b"]"
        return pieces

    def _one(self, call: dict[str, Any]) -> list[bytes]:
        self.counters.calls += 1
        head = b'{"jsonrpc":"2.0","id":%s,' % json.dumps(call.get("id")).encode()
        method: Callable[..., list[bytes]] | None = getattr(self, str(call["method"]), None)
        if method is None:
            return [head, b'"error":{"code":-32601,"message":"the method does not exist"}}']
        return [head, b'"result":', *method(*call.get("params") or ()), b"}"]

    # -- the methods, by their names ------------------------------------------------------------------------------

    def eth_chainId(self) -> list[bytes]:  # noqa: N802
        return [b'"0x%x"' % CHAIN_ID]

    def net_version(self) -> list[bytes]:
        return [b'"%d"' % CHAIN_ID]

    def web3_clientVersion(self) -> list[bytes]:  # noqa: N802
        return [b'"load/1"']

    def eth_blockNumber(self) -> list[bytes]:  # noqa: N802
        return [b'"0x%x"' % self.growth.tell_head()]

    def eth_getBlockByNumber(self, tag: str, full: bool = False) -> list[bytes]:  # noqa: N802
        found = self.chain.at(self.growth.tell_head() if tag == "latest" else self._number(tag))
        if full:
            self.growth.timeline.note_asked()
        if found is None:
            return [b"null"]
        self.counters.blocks += full
        return [found.block if full else found.thin]

    def eth_getBlockReceipts(self, tag: str) -> list[bytes]:  # noqa: N802
        found = self.chain.at(self._number(tag))
        return [b"null" if found is None else found.receipts]

    def eth_getTransactionReceipt(self, tx_hash: str) -> list[bytes]:  # noqa: N802
        return [self.chain.receipt(tx_hash) or b"null"]

    def eth_getLogs(self, wanted: dict[str, Any]) -> list[bytes]:  # noqa: N802
        if "blockHash" in wanted:
            first = last = self.chain.number_of(wanted["blockHash"])
        else:
            first, last = self._number(wanted["fromBlock"]), self._number(wanted["toBlock"])
        served = [self.chain.at(number) for number in range(first, last + 1)]
        return [b"[", b",".join(each.logs for each in served if each is not None and each.logs), b"]"]

    def _number(self, tag: str | dict[str, str]) -> int:
        if isinstance(tag, dict):
            tag = tag.get("blockHash") or tag["blockNumber"]
        if len(tag) == 66:
            return self.chain.number_of(tag)
        return int(tag, 16) if tag.startswith("0x") else self.chain.length - 1


class Connection(asyncio.Protocol):
    """One client: requests are answered in the order in which they come."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._read = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=64 << 20)

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (ends := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:ends]
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if len(self._read) < ends + 4 + size:
                return
            body, self._read = self._read[ends + 4 : ends + 4 + size], self._read[ends + 4 + size :]
            method, path, _ = head.decode("latin-1").split(" ", 2)
            later = partial(self._serve, path if method == "GET" else None, body)
            if self._node.manners.latency_secs:
                asyncio.get_running_loop().call_later(self._node.manners.latency_secs, later)
            else:
                later()

    def _serve(self, looks_at: str | None, body: bytes) -> None:
        counters = self._node.counters
        if looks_at is not None:
            self._send(200, [json.dumps(self._node.look(looks_at)).encode()])
            return
        counters.requests += 1
        status = self._node.refusal()
        if status is not None:
            counters.errors += 1
            self._send(status, [b"{}"])
            return
        pieces = self._node.answer(body)
        counters.bytes += sum(map(len, pieces))
        self._send(200, pieces)

    def _send(self, status: int, pieces: Sequence[bytes]) -> None:
        assert self._transport is not None
        head = b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(b"".join([head % (status, _REASONS[status], sum(map(len, pieces))), *pieces]))


async def serve(node: Node) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(node), "127.0.0.1", 0)
    print(f"LISTENING http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mix", choices=sorted(MIXES), default="mainnet")
    parser.add_argument("--blocks", type=int, required=True, help="length of the chain in the end")
    parser.add_argument("--start-head", type=int, help="the newest block at first (default: the last one)")
    parser.add_argument("--grow-every-ms", type=float, default=500.0, help="between blocks that are let appear")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=float("inf"), help="requests a second")
    parser.add_argument("--error-rate", type=float, default=0.0)
    parser.add_argument("--chain-data", type=Path, default=CHAIN_DATA)
    given = parser.parse_args()
    length = None if given.start_head is None else given.start_head + 1
    chain = Chain(templates(given.chain_data, given.mix), given.blocks, length)
    manners = Manners(given.latency_ms / 1000, given.rate, given.error_rate)
    asyncio.run(serve(Node(Growth(chain, given.grow_every_ms / 1000), manners)))


if __name__ == "__main__":
    main()
