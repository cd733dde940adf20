"""A provider that means harm: over each transport a typed error that names host and cause, in bounded memory."""

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.devnet.chain import DevChain
from ampd_ray.devnet.rpc import DevRpc
from ampd_ray.errors import (
    AmpdError,
    DataFault,
    MalformedResponse,
    ProviderError,
    ProviderUnreachable,
    ResponseTooLarge,
)
from ampd_ray.providers import bodies
from ampd_ray.providers.evm_rpc import EvmRpcSource
from ampd_ray.providers.limits import Timing
from tests.fakes.hostile_rpc import MIB, Answer, Chunks, Hostile, hostile, http_body
from tests.fakes.memory import peak
from tests.fakes.providers import all_of, provider
from tests.fakes.rpc_time import FakeTime

SCHEMES = ["http", "ws", "ipc"]
ONE = Span(1, 1)
ONCE = Timing(give_up_secs=0.0, fault_delays=(), reorg_delays=())


async def failure(server: Hostile, span: Span = ONE, **settings: Any) -> ProviderError:
    """What fetching from the server ends in; it names the provider and its host."""
    source = EvmRpcSource(provider(server.url, **settings), timing=ONCE)
    try:
        with pytest.raises(AmpdError) as raised:
            await all_of(source, span)
    finally:
        await source.close()
    assert isinstance(raised.value, ProviderError)
    host = "node.ipc" if server.url.startswith("ipc") else server.url.split("/")[2]
    assert f"block {span.start}: provider test_1 at {host} " in str(raised.value)
    json.dumps(raised.value.details, allow_nan=False)
    assert len(str(raised.value)) < 1500
    assert str(raised.value).isprintable()
    return raised.value


def calls(request: bytes) -> list[dict[str, Any]]:
    sent = json.loads(request)
    return sent if isinstance(sent, list) else [sent]


def result(make: Callable[[], Chunks]) -> Answer:
    """Answers each request with one reply whose result is what ``make`` makes."""

    def answer(request: bytes) -> Iterator[bytes]:
        yield b'{"jsonrpc":"2.0","id":%d,"result":' % calls(request)[0]["id"]
        yield from make()
        yield b"}"

    return answer


def body(text: bytes) -> Answer:
    return lambda request: [text.replace(b"$id", b"%d" % calls(request)[0]["id"])]


GARBAGE: dict[str, tuple[Answer, type[ProviderError], str]] = {
    "lists in lists": (result(lambda: [b"[" * 200_000, b"]" * 200_000]), MalformedResponse, "nested too deeply"),
    "objects in objects": (
        result(lambda: [b'{"a":' * 200_000, b"1", b"}" * 200_000]), MalformedResponse, "nested too deeply"
    ),
    "a number of 100,000 digits": (
        result(lambda: [b'{"number":' + b"9" * 100_000 + b"}"]), DataFault, r"out of range - at `\$.number`"
    ),
    "1e999": (result(lambda: [b'{"number":1e999}']), DataFault, r"out of range - at `\$.number`"),
    "a quantity of 100,000 digits": (
        result(lambda: [b'{"number":"0x' + b"f" * 100_000 + b'"}']),
        DataFault,
        r"length <= 1024 - at `\$.number`",
    ),
    "no UTF-8": (result(lambda: [b'{"hash":"\xff\xfe"}']), DataFault, "can't decode byte 0xff"),
    "half a surrogate": (result(lambda: [b'{"hash":"\\ud800"}']), MalformedResponse, "malformed JSON"),
    "another type": (result(lambda: [b'{"transactions":{}}']), DataFault, r"at `\$.transactions`"),
    "neither": (body(b'{"jsonrpc":"2.0","id":$id}'), MalformedResponse, "neither a result nor an error"),
    "an error of control characters": (
        body(b'{"id":$id,"error":{"code":1e308,"message":"\\u0000\\u001b[31m' + b"x" * 50_000 + b'"}}'),
        ProviderError,
        r"answered the error:   \[31mxxx",
    ),
    "an error of 500 kB": (
        body(b'{"id":$id,"error":{"code":-1,"message":"' + b"x" * 500_000 + b'"}}'),
        ProviderError,
        "an error object of 500024 bytes",
    ),
    "an error of lists": (
        body(b'{"id":$id,"error":' + b"[" * 900 + b"]" * 900 + b"}"), ProviderError, "answered the error"
    ),
    "HTML": (body(b"<html><body>Please log in</body></html>"), MalformedResponse, "HTML instead of JSON"),
    "binary": (body(b"\x00\x01\x02\xff"), MalformedResponse, "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_is_named(scheme: str, name: str, tmp_path: Path) -> None:
    answer, kind, words = GARBAGE[name]
    async with hostile(scheme, answer, tmp_path) as server:
        error = await failure(server)
    assert server.requests == 1
    assert type(error) is kind
    assert re.search(words, str(error))


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_an_answer_to_nobody(scheme: str, tmp_path: Path) -> None:
    words = "left out a reply" if scheme == "http" else "did not answer in time"  # one connection is one request's
    async with hostile(scheme, body(b'{"jsonrpc":"2.0","id":987654321,"result":{}}'), tmp_path) as server:
        assert words in str(await failure(server, timeout_secs=1))


@pytest.fixture(scope="module")
def rpc() -> DevRpc:
    made = DevChain(seed=5)
    made.mine(8)
    return DevRpc(made)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_batch_without_some_of_its_entries(scheme: str, rpc: DevRpc, tmp_path: Path) -> None:
    def without_block_3(request: bytes) -> Chunks:
        kept = [call["id"] for call in calls(request) if call["params"] != ["0x3", True]]
        return [json.dumps([reply for reply in json.loads(rpc.answer(request)) if reply["id"] in kept]).encode()]

    async with hostile(scheme, without_block_3, tmp_path) as server:
        source = EvmRpcSource(provider(server.url, rpc_batch_size=4), timing=ONCE)
        with pytest.raises(MalformedResponse, match=r"block 3: .* left out a reply"):
            await all_of(source, Span(1, 4))
        await source.close()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_of_two_keys_the_last_counts_as_for_everybody(scheme: str, rpc: DevRpc, tmp_path: Path) -> None:
    def twice(request: bytes) -> Chunks:
        return [rpc.answer(request).replace(b'"hash":', b'"hash":"0x00","hash":')]

    async with (
        hostile(scheme, twice, tmp_path) as server,
        hostile("http", lambda r: [rpc.answer(r)], tmp_path) as honest,
    ):
        sources = [EvmRpcSource(provider(one.url), timing=ONCE) for one in (server, honest)]
        first, second = [await all_of(source, Span(1, 8)) for source in sources]
        for source in sources:
            await source.close()
    assert first == second


# -- memory -----------------------------------------------------------------------------------------------------------

GIGABYTE = {
    "a text": (result(lambda: chain([b'"'], repeat(b"a" * MIB, 1024), [b'"'])), "answered more than 128 MiB"),
    "empty objects": (
        result(lambda: chain([b'{"transactions":['], repeat(b"{}," * (MIB // 3), 1024))),
        r"answered more than 128 MiB|answered \d+ MiB of values that would take more than 512 MiB",
    ),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("what", GIGABYTE)
async def test_a_gigabyte_eight_times_at_once(scheme: str, what: str, tmp_path: Path) -> None:
    answer, words = GIGABYTE[what]
    async with hostile(scheme, answer, tmp_path) as server:
        with peak() as memory:
            error = await failure(server, Span(1, 8))
    assert type(error) is ResponseTooLarge
    assert re.search(words, str(error))
    assert server.sent > 4 * MIB
    assert memory.grown < 2 * bodies.MAX_BODY_BYTES


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_of_blocks_asked_at_once_the_one_that_is_too_large_is_named(
    scheme: str, rpc: DevRpc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though on one connection all of them are lost with it."""
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", MIB)

    def answer(request: bytes) -> Chunks:
        return [b'"', *[b"a" * MIB] * 2, b'"'] if calls(request)[0]["params"][0] == "0x3" else [rpc.answer(request)]

    async with hostile(scheme, answer, tmp_path) as server:
        source = EvmRpcSource(provider(server.url), timing=FakeTime().timing)
        with pytest.raises(ResponseTooLarge, match="block 3: ") as raised:
            await all_of(source, Span(1, 8))
        await source.close()
    assert raised.value.details["block"] == 3


async def test_what_would_take_too_much_memory_is_not_parsed(tmp_path: Path) -> None:
    objects = result(lambda: chain([b'{"transactions":['], repeat(b"{}," * (MIB // 3), 20), [b"{}]}"]))
    async with hostile("http", objects, tmp_path) as server:
        with peak() as memory:
            error = await failure(server)
    assert "answered 20 MiB of values that would take more than 512 MiB of memory" in str(error)
    assert memory.grown < 100 * MIB


def bomb(size: int) -> Iterator[bytes]:
    """A text of so many MiB, compressed a thousandfold."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield packer.compress(b'{"id":1,"result":"')
    yield from filter(None, map(packer.compress, repeat(b"a" * MIB, size)))
    yield packer.flush()


async def test_a_gzip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 16 * MIB)
    packed = [b"".join(bomb(48))]
    answer: Answer = lambda _: http_body(packed, b"Content-Encoding: gzip")  # noqa: E731
    async with hostile("http", answer, tmp_path, raw=True) as server:
        with peak() as memory:
            error = await failure(server, Span(1, 2))
    assert "answered more than 16 MiB" in str(error)
    assert server.sent < 2 * MIB
    assert memory.grown < 64 * MIB


# -- the transports' own framing --------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, tuple[Callable[[], Chunks], type[ProviderError], str]] = {
    "headers": (lambda: chain([OK], repeat(b"X-a: b\r\n" * 10_000)), MalformedResponse, "not HTTP"),
    "a header": (lambda: chain([OK + b"X-a: "], repeat(b"b" * MIB)), MalformedResponse, "not HTTP"),
    "a status": (lambda: chain([OK[:-2]], repeat(b"b" * MIB)), MalformedResponse, "not HTTP"),
    "trailers": (lambda: chain([CHUNKED + b"2\r\n{}\r\n0\r\n"], repeat(b"X-a: b\r\n" * 10_000)), ProviderError, ""),
    "a chunk's extension": (lambda: chain([CHUNKED + b"2;a="], repeat(b"b" * MIB)), ProviderUnreachable, "in time"),
    "announcements": (lambda: repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), ProviderUnreachable, "in time"),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("handshake", [False, True], ids=["http", "ws"])
async def test_an_endless_answer(what: str, handshake: bool, tmp_path: Path) -> None:
    make, kind, words = ENDLESS[what]
    async with hostile("http", lambda _: make(), tmp_path, raw=True) as server:
        server.url = server.url.replace("http", "ws") if handshake else server.url
        with peak() as memory:
            error = await failure(server, timeout_secs=1)
    if not handshake:
        assert isinstance(error, kind)
        assert words in str(error)
    assert memory.grown < 64 * MIB


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_slow_drip_ends_in_a_timeout(scheme: str, tmp_path: Path) -> None:
    async with hostile(scheme, result(lambda: repeat(b"1")), tmp_path, pause=0.05) as server:
        error = await failure(server, timeout_secs=1)
    assert type(error) is ProviderUnreachable
    assert "did not answer in time" in str(error)
    assert server.sent > 40


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_a_redirect_of_a_websocket_is_not_followed(status: int, tmp_path: Path) -> None:
    async with hostile("http", lambda _: [], tmp_path, raw=True) as other:
        away = b"HTTP/1.1 %d Away\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, other.url.encode())
        async with hostile("http", lambda _: [away], tmp_path, raw=True) as server:
            server.url = server.url.replace("http", "ws")
            error = await failure(server, auth_token="s3cr3t-token", auth_header="X-Api-Key")
    assert f"HTTP {status}: a redirect, which is not followed" in str(error)
    assert (server.requests, other.requests) == (1, 0)


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        ([struct.pack(">BBQ", 0x81, 127, 1 << 40), *[b"a" * MIB] * 64], ResponseTooLarge),
        ([b"\xff" * 64], ProviderUnreachable),
        ([b"\x89\x7e\xff\xff" + b"p" * 65535], ProviderUnreachable),
    ],
    ids=["a frame of a terabyte", "reserved bits", "a ping of 64 kB"],
)
async def test_frames_that_nobody_may_send(frames: list[bytes], kind: type[ProviderError], tmp_path: Path) -> None:
    async with hostile("ws", lambda _: frames, tmp_path, raw=True) as server:
        with peak() as memory:
            assert type(await failure(server)) is kind
    assert memory.grown < 32 * MIB
