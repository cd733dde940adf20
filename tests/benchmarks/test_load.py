"""The load server: its blocks are a chain that strict checks pass, whoever asks for them, however it behaves."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.error import HTTPError

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.providers.evm_rpc import EvmRpcSource
from tests.benchmarks.backfill import load_server
from tests.benchmarks.load.blocks import MIXES, block_hash, means, templates
from tests.fakes.http import fetch, rpc_call
from tests.fakes.providers import all_of, provider
from tests.fakes.site import wait_until

pytestmark = pytest.mark.usefixtures("chain_data")
BLOCKS = 20


@pytest.mark.parametrize("mix", MIXES)
async def test_a_client_that_checks_strictly_takes_its_blocks(mix: str) -> None:
    with load_server(mix, BLOCKS) as url:
        before = fetch(url)
        source = EvmRpcSource(provider(url))
        try:
            await source.start()
            assert (await source.head("latest")).number == BLOCKS - 1
            blocks = await all_of(source, Span(0, BLOCKS - 1))
        finally:
            await source.close()
        after = fetch(url)
    assert [each.block.parent_hash for each in blocks] == [block_hash(number - 1) for number in range(BLOCKS)]
    hashes = [tx.hash for each in blocks for tx in each.transactions]
    assert len(set(hashes)) == len(hashes)
    assert after["blocks"] - before["blocks"] == BLOCKS
    assert source.stats().bytes_received == after["bytes"]


def test_what_peers_ask_for(chain_data: Path) -> None:
    with load_server("mainnet", BLOCKS) as url:
        receipts = rpc_call(url, "eth_getBlockReceipts", "0x7")
        logs = rpc_call(url, "eth_getLogs", {"fromBlock": "0x7", "toBlock": "0x8"})
        assert [log for log in logs if log["blockNumber"] == "0x7"] == [
            log for each in receipts for log in each["logs"]
        ]
        assert logs[-1]["blockNumber"] == "0x8"
        last = receipts[-1]
        assert rpc_call(url, "eth_getTransactionReceipt", last["transactionHash"]) == last
        assert rpc_call(url, "eth_getTransactionReceipt", "0x" + "00" * 32) is None
        assert rpc_call(url, "eth_getBlockByNumber", hex(BLOCKS), True) is None
        batch = [{"jsonrpc": "2.0", "id": id_, "method": "eth_chainId"} for id_ in (3, 1)]
        assert [(each["id"], each["result"]) for each in fetch(url, batch)] == [(3, "0x1"), (1, "0x1")]


def test_a_node_that_is_slow_and_fails() -> None:
    with load_server("light", BLOCKS, ("--latency-ms", "200", "--error-rate", "1.0")) as url:
        started = time.monotonic()
        with pytest.raises(HTTPError, match="500"):
            rpc_call(url, "eth_chainId")
        assert time.monotonic() - started >= 0.2
        assert fetch(url)["errors"] == 1


def test_a_node_that_takes_so_many_requests_a_second() -> None:
    with load_server("light", BLOCKS, ("--rate", "0.01")) as url:
        assert rpc_call(url, "eth_chainId") == "0x1"
        with pytest.raises(HTTPError, match="429"):
            rpc_call(url, "eth_chainId")


def test_a_chain_that_grows() -> None:
    with load_server("light", BLOCKS, ("--start-head", "16", "--grow-every-ms", "1")) as url:
        assert rpc_call(url, "eth_blockNumber") == "0x10"
        assert rpc_call(url, "eth_getBlockByNumber", "0x11", True) is None
        assert rpc_call(url, "eth_getBlockByNumber", block_hash(17), True) is None
        assert fetch(f"{url}/timeline") | {"asked": []} == {"first": 17, "appeared": [], "told": [], "asked": []}
        assert fetch(f"{url}/grow/2") == 18
        wait_until(lambda: rpc_call(url, "eth_blockNumber") == "0x12")
        grown = rpc_call(url, "eth_getBlockByNumber", "latest", True)
        assert (grown["number"], grown["hash"], grown["parentHash"]) == ("0x12", block_hash(18), block_hash(17))
        assert rpc_call(url, "eth_getBlockByNumber", "0x10", True)["hash"] == block_hash(16)
        assert fetch(f"{url}/grow/1") == 19


def test_when_blocks_appear_and_clients_hear_of_them() -> None:
    began = time.monotonic()
    with load_server("light", BLOCKS, ("--start-head", "16", "--grow-every-ms", "1")) as url:
        fetch(f"{url}/grow/3")
        wait_until(lambda: len(fetch(f"{url}/timeline")["appeared"]) == 3)
        assert fetch(f"{url}/timeline")["told"] == []
        head = rpc_call(url, "eth_getBlockByNumber", "latest", False)
        rpc_call(url, "eth_getBlockByNumber", head["number"], True)
        timeline = fetch(f"{url}/timeline")
    assert began < timeline["appeared"][0] < timeline["appeared"][1] < timeline["appeared"][2]
    assert timeline["told"] == timeline["told"][:1] * 3, "of the last one, and so of those before it"
    assert timeline["appeared"][2] < timeline["told"][0] < timeline["asked"][0] < time.monotonic()


def test_the_usual_mix_is_as_large_as_todays_blocks(chain_data: Path) -> None:
    of_mix = means(templates(chain_data, "mainnet"))
    assert 160 < of_mix["txs"] < 190
    assert 360 < of_mix["logs"] < 430
    assert 620 < of_mix["json_kb"] < 740
