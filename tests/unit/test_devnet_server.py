"""The devnet answers like a node: over HTTP and WebSocket, with a growing head and reorgs on demand."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from ampd_ray.cli.output import print_error
from ampd_ray.devnet.chain import CHAIN_ID, DevChain
from ampd_ray.devnet.server import DevnetServer, _serve
from ampd_ray.errors import UsageError

HEAD = 100
NO_HASH = "0x" + "ab" * 32


class Client:
    """Calls one node."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def post(self, body: Any) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.url, data=data) as response:
            assert response.status == 200
            return await response.json()

    async def call(self, method: str, *params: Any) -> Any:
        answer = await self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert answer["id"] == 1
        return answer["result"] if "result" in answer else answer["error"]["code"]


@pytest_asyncio.fixture
async def server() -> AsyncIterator[DevnetServer]:
    chain = DevChain(1)
    chain.mine(HEAD)
    async with DevnetServer(chain) as running:
        yield running


@pytest_asyncio.fixture
async def client(server: DevnetServer) -> AsyncIterator[Client]:
    async with ClientSession() as session:
        yield Client(session, server.url)


async def test_it_says_who_and_where_it_is(client: Client) -> None:
    assert await client.call("eth_chainId") == hex(CHAIN_ID)
    assert await client.call("net_version") == str(CHAIN_ID)
    assert await client.call("eth_blockNumber") == hex(HEAD)
    assert await client.call("eth_syncing") is False
    assert "devnet" in await client.call("web3_clientVersion")


@pytest.mark.parametrize(
    ("tag", "number"),
    [("latest", 100), ("pending", 100), ("safe", 68), ("finalized", 36), ("earliest", 0), ("0x0", 0), ("0xA", 10)],
)
async def test_tags_and_numbers_name_a_block(client: Client, tag: str, number: int) -> None:
    assert (await client.call("eth_getBlockByNumber", tag, False))["number"] == hex(number)


async def test_finality_never_goes_below_the_first_block() -> None:
    chain = DevChain(1)
    async with DevnetServer(chain) as server, ClientSession() as session:
        assert (await Client(session, server.url).call("eth_getBlockByNumber", "finalized"))["number"] == "0x0"


async def test_a_full_block_holds_the_transactions_whose_hashes_a_thin_one_lists(client: Client) -> None:
    for number in range(5):
        full = await client.call("eth_getBlockByNumber", hex(number), True)
        thin = await client.call("eth_getBlockByNumber", hex(number), False)
        assert thin["transactions"] == [transaction["hash"] for transaction in full["transactions"]]
        assert await client.call("eth_getBlockByHash", full["hash"], True) == full
        assert {**full, "transactions": None} == {**thin, "transactions": None}


async def test_receipts_by_number_hash_object_and_transaction_agree(client: Client) -> None:
    block = await client.call("eth_getBlockByNumber", "0x3", True)
    receipts = await client.call("eth_getBlockReceipts", "0x3")
    assert receipts
    assert receipts == await client.call("eth_getBlockReceipts", block["hash"])
    assert receipts == await client.call("eth_getBlockReceipts", {"blockHash": block["hash"]})
    for transaction, receipt in zip(block["transactions"], receipts, strict=True):
        assert await client.call("eth_getTransactionReceipt", transaction["hash"]) == receipt
        assert await client.call("eth_getTransactionByHash", transaction["hash"]) == transaction


async def test_what_is_not_there_is_null(client: Client) -> None:
    assert await client.call("eth_getBlockByNumber", hex(HEAD + 1), True) is None
    assert await client.call("eth_getBlockByHash", NO_HASH, True) is None
    assert await client.call("eth_getBlockReceipts", hex(HEAD + 1)) is None
    assert await client.call("eth_getTransactionReceipt", NO_HASH) is None
    assert await client.call("eth_getTransactionByHash", NO_HASH) is None


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("eth_nothing", [], -32601),
        ("eth_getBlockByNumber", [], -32602),
        ("eth_getBlockByNumber", [7], -32602),
        ("eth_getBlockByNumber", ["7"], -32602),
        ("eth_getBlockByNumber", ["0x07"], -32602),
        ("eth_getBlockByHash", ["0x12"], -32602),
        ("eth_getTransactionReceipt", [None], -32602),
        ("eth_getLogs", ["0x1"], -32602),
        ("eth_getLogs", [{"fromBlock": "0x9", "toBlock": "0x1"}], -32602),
        ("eth_getLogs", [{"blockHash": NO_HASH}], -32000),
        ("devnet_reorg", [0], -32602),
        ("devnet_reorg", [HEAD + 1], -32602),
        ("devnet_switch", ["0x" + "77" * 32], -32602),
        ("devnet_spoil", [HEAD + 1], -32602),
        ("devnet_spoil", [0], -32602),
        ("devnet_spoil", ["1"], -32602),
        ("devnet_mine", [0], -32602),
        ("devnet_mine", ["x"], -32602),
    ],
)
async def test_bad_calls_get_the_error_code(client: Client, method: str, params: list[Any], code: int) -> None:
    assert await client.call(method, *params) == code


@pytest.mark.parametrize(
    ("body", "code"), [(b"{nonsense", -32700), (b"[]", -32600), (b"7", -32600), (b'{"id":1}', -32600)]
)
async def test_bad_requests_get_the_error_code(client: Client, body: bytes, code: int) -> None:
    answer = await client.post(body)
    assert answer["error"]["code"] == code
    assert answer["id"] is None


async def test_a_batch_is_answered_call_by_call(client: Client) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 7, "method": "eth_nothing", "params": []},
        {"jsonrpc": "2.0", "id": 8, "method": "eth_getBlockByNumber", "params": {"block": "latest"}},
        3,
    ]
    answers = await client.post(batch)
    assert [answer["id"] for answer in answers] == ["a", 7, 8, None]
    assert answers[0]["result"] == hex(CHAIN_ID)
    assert [answer["error"]["code"] for answer in answers[1:]] == [-32601, -32602, -32600]


async def test_logs_are_filtered_by_block_address_and_topic(client: Client) -> None:
    everything = await client.call("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x14"})
    receipts = [await client.call("eth_getBlockReceipts", hex(number)) for number in range(1, 21)]
    assert everything == [log for block in receipts for receipt in block for log in receipt["logs"]]
    sample = next(log for log in everything if len(log["topics"]) == 3)
    query = {"fromBlock": "0x1", "toBlock": "0x14", "address": sample["address"], "topics": [None, sample["topics"][1]]}
    found = await client.call("eth_getLogs", query)
    assert sample in found
    assert found == [
        log for log in everything if log["address"] == sample["address"] and log["topics"][1:2] == sample["topics"][1:2]
    ]
    by_hash = await client.call("eth_getLogs", {"blockHash": sample["blockHash"], "address": [sample["address"]]})
    assert sample in by_hash


async def test_a_large_answer_is_compressed_when_asked_for(client: Client) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x3", True]}
    for accepted, encoding in (("gzip", "gzip"), ("identity", None)):
        async with client.session.post(client.url, json=call, headers={"Accept-Encoding": accepted}) as response:
            assert response.headers.get("Content-Encoding") == encoding
            assert (await response.json())["result"]["number"] == "0x3"


async def test_websocket_answers_the_same(server: DevnetServer, client: Client) -> None:
    block = await client.call("eth_getBlockByNumber", "latest", True)
    async with client.session.ws_connect(server.ws_url) as socket:
        await socket.send_str('{"jsonrpc":"2.0","id":5,"method":"eth_getBlockByNumber","params":["latest",true]}')
        assert await socket.receive_json() == {"jsonrpc": "2.0", "id": 5, "result": block}
        await server.stop()
        assert (await socket.receive()).type.name in ("CLOSE", "CLOSING", "CLOSED")


async def test_mining_and_reorgs_on_demand(client: Client) -> None:
    old = await client.call("eth_getBlockByNumber", "latest", False)
    assert await client.call("devnet_reorg", 2) == hex(HEAD)
    new = await client.call("eth_getBlockByNumber", "latest", False)
    assert new["number"] == old["number"]
    assert new["hash"] != old["hash"]
    assert await client.call("eth_getBlockByHash", old["hash"], False) == old
    assert await client.call("devnet_mine", 3) == hex(HEAD + 3)
    assert await client.call("devnet_mine") == hex(HEAD + 4)


async def test_the_head_grows_by_itself() -> None:
    chain = DevChain(1)
    async with DevnetServer(chain, block_time=0.01) as server, ClientSession() as session, asyncio.timeout(10):
        client = Client(session, server.url)
        while int(await client.call("eth_blockNumber"), 16) < 3:
            pass


async def test_calls_are_counted(server: DevnetServer, client: Client) -> None:
    await client.call("eth_chainId")
    await client.call("eth_chainId")
    assert server.rpc.calls["eth_chainId"] == 2


async def test_a_taken_port_is_said_so(server: DevnetServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
        await DevnetServer(DevChain(1), port=port).start()


async def test_a_taken_port_is_noticed_before_the_chain_is_made(
    server: DevnetServer, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = DevChain(1)
    with pytest.raises(UsageError) as caught:
        await _serve(DevnetServer(chain, port=int(server.url.rpartition(":")[2])), 9, print, print)
    assert chain.head.number == 0
    print_error(caught.value)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_while_a_long_chain_is_made_it_says_how_far_it_is() -> None:
    code = "from ampd_ray.cli import devnet; devnet.SAY_EVERY_SECS = 0.0; devnet.devnet(blocks=3, port=0)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"LISTENING ")
        process.terminate()
        said = process.stderr.read().decode().splitlines()
    assert said == [f"making the chain: {number} of 3 blocks" for number in (1, 2, 3)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_process_says_where_it_listens_and_ends_cleanly(number: signal.Signals) -> None:
    command = [sys.executable, "-c", "from ampd_ray.devnet.server import run; run(blocks=2, seed=3)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("LISTENING http://127.0.0.1:")
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""


async def test_a_spoiled_block_lacks_its_last_receipt_until_it_is_mended(client: Client) -> None:
    whole = await client.call("eth_getBlockReceipts", "0x7")
    last = whole[-1]["transactionHash"]

    assert await client.call("devnet_spoil", 7) == 1
    assert await client.call("eth_getBlockReceipts", "0x7") == whole[:-1]
    assert await client.call("eth_getTransactionReceipt", last) is None

    assert await client.call("devnet_spoil") == 0
    assert await client.call("eth_getBlockReceipts", "0x7") == whole
    assert await client.call("eth_getTransactionReceipt", last) == whole[-1]
