"""A provider that misbehaves is understood: it passes, or ends in a clear error of its class, never in wrong data."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.devnet.chain import DevChain
from ampd_ray.devnet.rpc import DevRpc, RpcError
from ampd_ray.errors import (
    AmpdError,
    BlockUnavailable,
    ConfigError,
    DataFault,
    MalformedResponse,
    MethodMissing,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    ReorgDuringFetch,
    ResponseTooLarge,
    WrongChain,
    chain_of,
)
from ampd_ray.providers import bodies
from ampd_ray.providers.evm_rpc import EvmRpcSource
from ampd_ray.providers.repeats import QUIET_SECS
from tests.fakes.faulty_rpc import FOREVER, Fault, FaultyRpc
from tests.fakes.providers import all_of, provider
from tests.fakes.rpc_time import FakeTime

SPAN = Span(1, 24)
BLOCK = "eth_getBlockByNumber"
RECEIPTS = "eth_getBlockReceipts"


@pytest.fixture(scope="module")
def chain() -> DevChain:
    made = DevChain(seed=7)
    made.mine(30)
    return made


@pytest.fixture
async def node(chain: DevChain) -> AsyncIterator[FaultyRpc]:
    async with FaultyRpc(chain) as running:
        yield running


async def fetch(url: str, span: Span = SPAN, time: FakeTime | None = None, **settings: Any) -> list[BlockAndReceipts]:
    source = EvmRpcSource(provider(url, **settings), timing=(time or FakeTime()).timing)
    try:
        return await all_of(source, span)
    finally:
        await source.close()


PASSING = [
    Fault.TOO_MANY,
    Fault.SERVER_ERROR,
    Fault.UNAVAILABLE,
    Fault.HTML,
    Fault.TRUNCATED,
    Fault.EMPTY,
    Fault.RESET,
    Fault.LIMIT_IN_200,
    Fault.INTERNAL,
    Fault.NULL,
    Fault.SHUFFLED,
    Fault.WRONG_IDS,
    Fault.MISSING_ANSWER,
    Fault.DUPLICATE_ANSWER,
]


@pytest.mark.parametrize("method", [BLOCK, RECEIPTS])
@pytest.mark.parametrize("batch", [0, 5])
@pytest.mark.parametrize("fault", PASSING)
async def test_what_passes_leaves_no_trace(node: FaultyRpc, fault: Fault, batch: int, method: str) -> None:
    expected = await fetch(node.url)
    node.inject(fault, times=2, method=method)
    assert await fetch(node.url, rpc_batch_size=batch) == expected
    assert node.fired[fault] == 2


@pytest.mark.parametrize("fault", [Fault.DROPPED_RECEIPT, Fault.NO_RECEIPTS])
async def test_receipts_that_do_not_match_are_fetched_again_with_their_block(node: FaultyRpc, fault: Fault) -> None:
    expected = await fetch(node.url)
    node.inject(fault, times=1, method=RECEIPTS)
    time = FakeTime()
    assert await fetch(node.url, time=time) == expected
    assert node.fired[fault] == 1
    assert time.slept == [0.5]


ENDING = [
    (Fault.UNAUTHORIZED, ProviderRefused, 1, "HTTP 401"),
    (Fault.FORBIDDEN, ProviderRefused, 1, "HTTP 403"),
    (Fault.TOO_LARGE, ResponseTooLarge, 1, "HTTP 413"),
    (Fault.TOO_MANY, RateLimited, 8, "HTTP 429"),
    (Fault.SERVER_ERROR, ProviderUnreachable, 8, "HTTP 500"),
    (Fault.RESET, ProviderUnreachable, 8, "dropped the connection"),
    (Fault.HTML, MalformedResponse, 3, "HTML instead of JSON"),
    (Fault.TRUNCATED, MalformedResponse, 3, "truncated or malformed JSON"),
    (Fault.EMPTY, MalformedResponse, 3, "nothing"),
    (Fault.WRONG_IDS, MalformedResponse, 3, "left out a reply"),
    (Fault.NO_METHOD, MethodMissing, 1, "-32601"),
    (Fault.NULL, BlockUnavailable, 6, "null"),
]


@pytest.mark.parametrize(("fault", "kind", "tries", "words"), ENDING)
async def test_what_stays_ends_in_a_clear_error(
    node: FaultyRpc, fault: Fault, kind: type[AmpdError], tries: int, words: str
) -> None:
    node.inject(fault, times=FOREVER)
    time = FakeTime()
    with pytest.raises(kind) as raised:
        await fetch(node.url, Span(3, 3), time)
    assert type(raised.value) is kind
    assert node.fired[fault] == len(node.requests) == tries
    assert words in str(raised.value)
    assert str(raised.value).startswith(f"block 3: provider test_1 at {node.url.removeprefix('http://')} ")
    assert raised.value.details["block"] == 3
    assert sum(time.slept) < 25


@pytest.mark.parametrize("fault", [Fault.DROPPED_RECEIPT, Fault.NO_RECEIPTS])
async def test_receipts_that_never_match_end_in_a_data_fault_within_seconds(node: FaultyRpc, fault: Fault) -> None:
    node.inject(fault, times=FOREVER, method=RECEIPTS)
    time = FakeTime()
    with pytest.raises(
        DataFault, match=r"test block 2: .* receipts? for .*provider test_1 at 127.0.0.1:\d+, 4 tries"
    ) as raised:
        await fetch(node.url, Span(2, 2), time)
    assert time.slept == [0.5, 2.0, 5.0]
    assert node.fired[fault] == 4
    details = raised.value.details
    assert (details["block"], details["check"], details["provider"]) == (2, 2, "test_1")
    assert details["host"] == node.url.removeprefix("http://")


def changed(receipts: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    return [receipts[0] | fields, *receipts[1:]]


OTHER_FORMS: list[tuple[str, Callable[[Any], Any], str]] = [
    (BLOCK, lambda block: block | {"transactions": {}}, "$.transactions"),
    (BLOCK, lambda block: "0x", "got `str`"),
    (RECEIPTS, lambda receipts: changed(receipts, logs=[None]), "$[0].logs[0]"),
    (RECEIPTS, lambda receipts: changed(receipts, logs=[{"topics": [None]}]), "$[0].logs[0].topics[0]"),
    (RECEIPTS, lambda receipts: changed(receipts, status=True), "$[0].status"),
    (RECEIPTS, lambda receipts: changed(receipts, cumulativeGasUsed=21000.0), "$[0].cumulativeGasUsed"),
    (RECEIPTS, lambda receipts: {}, "got `object`"),
]


@pytest.mark.parametrize(("method", "change", "words"), OTHER_FORMS)
async def test_a_result_that_is_no_block_or_receipts_is_a_data_fault_within_seconds(
    node: FaultyRpc, method: str, change: Callable[[Any], Any], words: str
) -> None:
    node.alter(method, change)
    time = FakeTime()
    with pytest.raises(DataFault) as raised:
        await fetch(node.url, Span(2, 2), time)
    host = node.url.removeprefix("http://")
    assert str(raised.value).startswith(f"block 2: provider test_1 at {host} answered {method} in a form that ")
    assert words in str(raised.value)
    assert time.slept == [0.5, 2.0, 5.0]
    assert node.fired[method] in (4, 5)  # what looks like receipts is asked for as text before
    details = raised.value.details
    assert (details["block"], details["tries"], details["host"]) == (2, 4, host)


async def test_a_result_that_was_no_block_once_leaves_no_trace(node: FaultyRpc) -> None:
    expected = await fetch(node.url)
    node.alter(RECEIPTS, lambda receipts: changed(receipts, logs=[None]), times=1)
    assert await fetch(node.url) == expected
    assert node.fired[RECEIPTS] == 1


async def test_the_wrong_block_is_a_data_fault(node: FaultyRpc) -> None:
    node.alter(BLOCK, lambda block: block | {"number": "0x5"})
    with pytest.raises(DataFault, match="sent block 5 instead"):
        await fetch(node.url, Span(4, 4))


async def test_hashes_in_place_of_transactions_are_a_data_fault(node: FaultyRpc) -> None:
    node.alter(BLOCK, lambda block: block | {"transactions": [tx["hash"] for tx in block["transactions"]]})
    with pytest.raises(DataFault, match="transaction hashes instead of transactions"):
        await fetch(node.url, Span(4, 4))


def of_another_branch(receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [receipt | {"blockHash": "0x" + "ab" * 32} for receipt in receipts]


async def test_a_reorg_between_two_calls_is_read_again_at_once(node: FaultyRpc) -> None:
    expected = await fetch(node.url)
    node.alter(RECEIPTS, of_another_branch, times=2)
    time = FakeTime()
    assert await fetch(node.url, time=time) == expected
    assert node.fired[RECEIPTS] == 2
    assert set(time.slept) <= {0.1, 0.5}


async def test_branches_that_never_meet_end_in_an_error(node: FaultyRpc) -> None:
    node.alter(RECEIPTS, of_another_branch)
    with pytest.raises(ReorgDuringFetch, match=r"4 tries"):
        await fetch(node.url, Span(2, 2))


async def test_the_error_is_that_of_the_lowest_bad_block(node: FaultyRpc) -> None:
    node.alter(BLOCK, lambda block: None if int(block["number"], 16) in (9, 17) else block)
    with pytest.raises(BlockUnavailable) as raised:
        await fetch(node.url, rpc_batch_size=2)
    assert raised.value.details["block"] == 9


class NoHashRpc(DevRpc):
    """A node whose ``eth_getBlockReceipts`` takes numbers only."""

    def _block_receipts(self, params: list[Any]) -> bytes:
        if len(params[0]) == 66:
            raise RpcError(-32602, "invalid argument 0: hex number > 64 bits")
        return super()._block_receipts(params)


async def test_receipts_are_asked_by_number_where_hashes_are_refused_and_that_is_remembered(
    node: FaultyRpc, chain: DevChain
) -> None:
    expected = await fetch(node.url)
    node.rpc = NoHashRpc(chain)
    source = EvmRpcSource(provider(node.url, concurrent_request_limit=1), timing=FakeTime().timing)
    await all_of(source, Span(1, 1))
    asked = node.rpc.calls[RECEIPTS]
    assert await all_of(source, SPAN) == expected
    assert asked == 2
    assert node.rpc.calls[RECEIPTS] - asked == sum(bool(fetched.block.transactions) for fetched in expected)
    await source.close()


async def test_a_node_that_finds_nothing_by_hash_is_asked_by_number(node: FaultyRpc, chain: DevChain) -> None:
    expected = await fetch(node.url)
    node.alter(RECEIPTS, lambda _: None, times=1)
    time = FakeTime()
    source = EvmRpcSource(provider(node.url, concurrent_request_limit=1), timing=time.timing)
    assert await all_of(source, SPAN) == expected
    assert source.stats().retries == 0
    assert time.slept == []
    await source.close()


async def test_a_request_without_an_answer_times_out_and_is_sent_again(node: FaultyRpc) -> None:
    node.inject(Fault.HANG)
    assert len(await fetch(node.url, Span(1, 3), timeout_secs=1)) == 3
    assert node.fired[Fault.HANG] == 1


async def test_a_refused_connection_is_unreachable(unused_tcp_port: int) -> None:
    time = FakeTime()
    with pytest.raises(ProviderUnreachable, match=f"127.0.0.1:{unused_tcp_port} refused the connection .8 tries"):
        await fetch(f"http://127.0.0.1:{unused_tcp_port}", Span(1, 2), time)
    assert sum(time.slept) < 26


async def test_another_chain_is_fatal_at_start(node: FaultyRpc, chain: DevChain) -> None:
    node.inject(Fault.WRONG_CHAIN)
    source = EvmRpcSource(provider(node.url), expected_chain_id=chain.chain_id)
    with pytest.raises(WrongChain, match="serves chain 57005") as raised:
        await source.start()
    assert not raised.value.retryable
    await source.start()
    await source.close()


@pytest.mark.parametrize(
    ("settings", "header", "value"),
    [
        ({"auth_token": "s3cr3t-token"}, "Authorization", "Bearer s3cr3t-token"),
        ({"auth_token": "s3cr3t-token", "auth_header": "X-Api-Key"}, "X-Api-Key", "s3cr3t-token"),
    ],
)
async def test_the_token_goes_into_its_header(
    node: FaultyRpc, settings: dict[str, Any], header: str, value: str
) -> None:
    await fetch(node.url, Span(1, 1), **settings)
    assert {request.headers.get(header) for request in node.requests} == {value}


@pytest.mark.parametrize("fault", [Fault.UNAUTHORIZED, Fault.HTML, Fault.RESET, Fault.NO_METHOD])
async def test_secrets_stay_out_of_errors_and_logs(
    node: FaultyRpc, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    node.inject(fault, times=FOREVER)
    host = node.url.removeprefix("http://")
    with pytest.raises(AmpdError) as raised:
        await fetch(f"http://us3r:p4ssw0rd@{host}/v2/k3yk3yk3y?token=t0k3nt0k3n", Span(1, 1))
    told = [*chain_of(raised.value), repr(raised.value.details), caplog.text, *map(str, caplog.records)]
    for secret in ("us3r", "p4ssw0rd", "k3yk3yk3y", "t0k3nt0k3n"):
        assert not any(secret in text for text in told)
    assert host in str(raised.value)


async def test_a_storm_of_429_is_a_few_lines_of_log(node: FaultyRpc, caplog: pytest.LogCaptureFixture) -> None:
    node.inject(Fault.TOO_MANY, times=100, retry_after=0)
    time = FakeTime()
    before = time.now
    await fetch(node.url, time=time)
    assert node.fired[Fault.TOO_MANY] == 100
    assert 1 <= len(caplog.records) <= 1 + (time.now - before) / QUIET_SECS


async def test_redirects_are_not_followed(node: FaultyRpc) -> None:
    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": node.url})

    app = web.Application()
    app.router.add_post("/", redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(AmpdError, match="HTTP 307: a redirect"):
            await fetch(f"http://127.0.0.1:{runner.addresses[0][1]}", Span(1, 1), auth_token="s3cr3t-token")
    finally:
        await runner.cleanup()
    assert node.requests == []


async def test_a_body_without_end_is_cut(node: FaultyRpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 500)
    with pytest.raises(ResponseTooLarge, match="answered more than"):
        await fetch(node.url, Span(1, 1))


@pytest.mark.parametrize("url", ["ftp://x", "https://", "ipc://", "localhost:8545", "http://x:99999", "http://[::1"])
def test_an_address_that_cannot_be_used_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="provider test_1"):
        EvmRpcSource(provider(url))
