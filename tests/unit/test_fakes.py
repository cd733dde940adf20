"""The stand-ins do what tests rely on, so that a green test with a fault in it means that the fault happened."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, ContentTypeError

from ampd_ray.devnet.chain import DevChain
from tests.fakes import places
from tests.fakes.anvil import Anvil
from tests.fakes.anvil_txs import KINDS, Sender
from tests.fakes.devnet import Devnet
from tests.fakes.faulty_rpc import STATUS, Fault, FaultyRpc
from tests.fakes.places import needs
from tests.fakes.replay import Replay
from tests.fakes.tcp_proxy import TcpProxy

BATCH = [
    {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x3", True]},
    {"jsonrpc": "2.0", "id": 2, "method": "eth_getBlockReceipts", "params": ["0x3"]},
    {"jsonrpc": "2.0", "id": 3, "method": "eth_chainId", "params": []},
]


@pytest_asyncio.fixture
async def node() -> AsyncIterator[FaultyRpc]:
    chain = DevChain(1)
    chain.mine(5)
    async with FaultyRpc(chain) as running:
        yield running


@pytest_asyncio.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as running:
        yield running


async def ask(session: ClientSession, node: FaultyRpc, body: Any = BATCH) -> Any:
    async with session.post(node.url, json=body) as response:
        assert response.status == 200
        return await response.json()


@pytest.mark.parametrize("fault", list(STATUS))
async def test_a_status_fault_happens_as_often_as_asked(session: ClientSession, node: FaultyRpc, fault: Fault) -> None:
    node.inject(fault, times=2, retry_after=7)
    for status in (STATUS[fault], STATUS[fault], 200):
        async with session.post(node.url, json=BATCH) as response:
            assert response.status == status
            assert ("Retry-After" in response.headers) == (status in (429, 503))
    assert node.fired == {fault: 2}
    assert len(node.requests) == 3


async def test_a_fault_waits_for_its_method(session: ClientSession, node: FaultyRpc) -> None:
    node.inject(Fault.TOO_LARGE, method="eth_getBlockReceipts")
    await ask(session, node, BATCH[0])
    assert not node.fired
    async with session.post(node.url, json=BATCH) as response:
        assert response.status == 413


async def test_bodies_that_are_no_json(session: ClientSession, node: FaultyRpc) -> None:
    node.inject(Fault.HTML)
    with pytest.raises(ContentTypeError):
        await ask(session, node)
    for fault in (Fault.TRUNCATED, Fault.EMPTY):
        node.inject(fault)
        async with session.post(node.url, json=BATCH) as response:
            text = await response.text()
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)


async def test_a_reset_and_a_hang_give_no_answer(session: ClientSession, node: FaultyRpc) -> None:
    node.inject(Fault.RESET)
    with pytest.raises((ClientConnectionError, ClientPayloadError)):
        await ask(session, node)
    node.inject(Fault.HANG)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ask(session, node)
    assert node.fired == {Fault.RESET: 1, Fault.HANG: 1}


@pytest.mark.parametrize(
    ("fault", "code"), [(Fault.LIMIT_IN_200, -32005), (Fault.INTERNAL, -32603), (Fault.NO_METHOD, -32601)]
)
async def test_errors_inside_a_200(session: ClientSession, node: FaultyRpc, fault: Fault, code: int) -> None:
    node.inject(fault)
    answers = await ask(session, node)
    assert [(answer["id"], answer["error"]["code"]) for answer in answers] == [(1, code), (2, code), (3, code)]


async def test_answers_in_disorder(session: ClientSession, node: FaultyRpc) -> None:
    right = await ask(session, node)
    for fault in (Fault.SHUFFLED, Fault.WRONG_IDS, Fault.MISSING_ANSWER, Fault.DUPLICATE_ANSWER):
        node.inject(fault)
    shuffled, wrong, missing, duplicate = [await ask(session, node) for _ in range(4)]
    assert shuffled != right
    assert sorted(shuffled, key=lambda answer: answer["id"]) == right
    assert not {answer["id"] for answer in wrong} & {1, 2, 3}
    assert missing == right[1:]
    assert duplicate == [*right, right[0]]


async def test_results_that_lie(session: ClientSession, node: FaultyRpc) -> None:
    block, receipts, chain = await ask(session, node)
    for fault in (Fault.DROPPED_RECEIPT, Fault.NO_RECEIPTS, Fault.WRONG_CHAIN, Fault.NULL):
        node.inject(fault)
    dropped, none, other, null = [await ask(session, node) for _ in range(4)]
    assert dropped == [block, {**receipts, "result": receipts["result"][:-1]}, chain]
    assert none == [block, {**receipts, "result": []}, chain]
    assert other == [block, receipts, {**chain, "result": "0xdead"}]
    assert [answer["result"] for answer in null] == [None, None, None]


async def test_a_result_is_altered_until_healed(session: ClientSession, node: FaultyRpc) -> None:
    node.alter("eth_getBlockByNumber", lambda block: {**block, "number": "0x9"})
    assert (await ask(session, node))[0]["result"]["number"] == "0x9"
    assert (await ask(session, node, BATCH[0]))["result"]["number"] == "0x9"
    node.heal()
    assert (await ask(session, node))[0]["result"]["number"] == "0x3"
    assert node.fired == {"eth_getBlockByNumber": 2}


async def test_the_proxy_cuts_swallows_and_resumes(devnet: Devnet) -> None:
    async with TcpProxy("127.0.0.1", int(devnet.url.rpartition(":")[2])) as proxy, ClientSession() as session:
        url = f"http://{proxy.host}:{proxy.port}"

        async def chain_id() -> str:
            async with session.post(url, json=BATCH[2]) as response:
                return str((await response.json())["result"])

        assert await chain_id() == "0x539"
        proxy.cut()
        for _ in ("the open connection", "a new one"):
            with pytest.raises(ClientConnectionError):
                await chain_id()
        assert proxy.refused
        proxy.resume()
        proxy.blackhole()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await chain_id()
        proxy.resume()
        assert await chain_id() == "0x539"
        assert proxy.connections >= 2
        assert proxy.passed > 0


def test_a_devnet_of_ones_own(devnet_server: Callable[..., Devnet]) -> None:
    own = devnet_server(5, seed=9)
    own.mine(2)
    own.reorg(1)
    assert own.call("eth_blockNumber") == "0x7"
    assert own.chain.head.number == 7


def test_the_replay_server_serves_and_obeys(replay_server: Callable[..., Replay]) -> None:
    replay = replay_server("mainnet-era1-00000", options=("--latency", "1"))
    assert (replay.chain_id, replay.first, replay.last) == (1, 0, 8191)
    replay.control(head=100)
    assert replay.stats()["head"] == 100


@pytest.mark.anvil
def test_anvil_takes_all_five_transaction_types(anvil: Callable[..., Anvil]) -> None:
    node = anvil()
    Sender(node).grow(2)
    assert node.head() == 3
    block = node.call("eth_getBlockByNumber", "latest", True)
    receipts = node.call("eth_getBlockReceipts", "latest")
    assert [int(transaction["type"], 16) for transaction in block["transactions"]] == list(KINDS)
    assert [(receipt["status"], len(receipt["logs"])) for receipt in receipts] == [("0x1", 4)] * 5
    assert node.call("eth_getBlockByNumber", "safe", False)["number"] == "0x1"
    node.reorg(1)
    assert node.call("eth_getBlockByNumber", "0x3", False)["hash"] != block["hash"]


@pytest.mark.anvil
def test_anvil_mines_by_itself_where_asked(anvil: Callable[..., Anvil]) -> None:
    node = anvil(block_time=0.05)
    while node.head() < 2:
        pass


# -- what lies beside the checkout ------------------------------------------------------------------------------------


def test_a_clone_of_its_own_skips_what_it_lacks_and_one_that_is_tested_for_all_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    monkeypatch.setattr(places, "SHARED", shared)
    for ci, makes in (("true", False), ("", True)):
        monkeypatch.setenv("CI", ci)
        if makes:
            shared.mkdir()
        with pytest.raises(pytest.skip.Exception, match="needs shared/chain-data beside the checkout"):
            needs(shared / "chain-data")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="chain-data is not in"):
        needs(shared / "chain-data")
    (shared / "chain-data").mkdir()
    assert needs(shared / "chain-data") == shared / "chain-data"
