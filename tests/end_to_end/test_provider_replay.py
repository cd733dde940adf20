"""Real blocks from the replay server, whatever the provider can and cannot do."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, RpcBlock, RpcReceipt, quantity
from ampd_ray.errors import BlockUnavailable, WrongChain
from ampd_ray.providers.evm_rpc import EvmRpcSource
from tests.fakes.providers import all_of, provider
from tests.fakes.replay import Replay, replay

TESTCHAIN = Span(0, 54)


class Line(msgspec.Struct):
    block: RpcBlock
    receipts: list[RpcReceipt]


@pytest.fixture(scope="module")
def testchain(chain_data: Path) -> Iterator[list[BlockAndReceipts]]:
    with gzip.open(chain_data / "testchain-execution-apis" / "blocks.jsonl.gz") as lines:
        parsed = [msgspec.json.decode(line, type=Line) for line in lines]
        yield [BlockAndReceipts(line.block, line.receipts) for line in parsed]


@pytest.fixture
def node(chain_data: Path) -> Iterator[Replay]:
    with replay("testchain-execution-apis") as running:
        yield running


@asynccontextmanager
async def source(url: str, **settings: Any) -> AsyncIterator[EvmRpcSource]:
    opened = EvmRpcSource(provider(url, **settings))
    try:
        await opened.start()
        yield opened
    finally:
        await opened.close()


async def fetch(node: Replay, span: Span = TESTCHAIN, **settings: Any) -> list[BlockAndReceipts]:
    async with source(node.url, **settings) as opened:
        return await all_of(opened, span)


@pytest.mark.parametrize("batch", [0, 1, 7, 100])
async def test_all_blocks_in_order_and_equal_to_the_recording(
    node: Replay, testchain: list[BlockAndReceipts], batch: int
) -> None:
    assert await fetch(node, rpc_batch_size=batch) == testchain
    calls = node.stats()["calls"]
    assert calls["eth_getBlockByNumber"] == 55
    assert calls["eth_getBlockReceipts"] == sum(bool(fetched.block.transactions) for fetched in testchain)
    if batch > 1:
        assert calls["http"] <= 1 + 2 * -(-55 // batch) + 2


async def test_a_shuffled_batch_answer_is_put_in_order(testchain: list[BlockAndReceipts]) -> None:
    with replay("testchain-execution-apis", options=("--shuffle",)) as node:
        assert await fetch(node, rpc_batch_size=9) == testchain


async def test_receipts_come_one_by_one_where_the_provider_says_so(
    node: Replay, testchain: list[BlockAndReceipts]
) -> None:
    assert await fetch(node, fetch_receipts_per_tx=True, rpc_batch_size=20) == testchain
    calls = node.stats()["calls"]
    assert (calls["eth_getTransactionReceipt"], calls.get("eth_getBlockReceipts", 0)) == (249, 0)


async def test_a_node_without_block_receipts_is_asked_for_them_once(
    node: Replay, testchain: list[BlockAndReceipts]
) -> None:
    node.control(no_block_receipts=True)
    async with source(node.url, concurrent_request_limit=1) as opened:
        assert await all_of(opened, Span(0, 20)) == testchain[:21]
        asked = node.stats()["calls"]["eth_getBlockReceipts"]
        assert await all_of(opened, Span(21, 54)) == testchain[21:]
        assert node.stats()["calls"]["eth_getBlockReceipts"] == asked


async def test_null_receipts_are_a_fault_that_names_the_block_and_never_empty(node: Replay) -> None:
    node.control(drop_receipts=True)
    with pytest.raises(BlockUnavailable, match=r"block 9: provider test_1 at 127.0.0.1:\d+ has nothing \(null\)"):
        await fetch(node, Span(9, 9))


async def test_errors_of_single_calls_cost_only_a_second_call(node: Replay, testchain: list[BlockAndReceipts]) -> None:
    node.control(error_rate=0.1)
    async with source(node.url, rpc_batch_size=5) as opened:
        assert await all_of(opened, TESTCHAIN) == testchain
        stats = opened.stats()
    assert stats.retries > 0
    assert stats.throttled > 0
    assert stats.calls - stats.retries - 1 == 55 + sum(bool(fetched.block.transactions) for fetched in testchain)


async def test_429_with_retry_after_slows_down_and_finishes(node: Replay, testchain: list[BlockAndReceipts]) -> None:
    node.control(rate=30)
    async with source(node.url) as opened:
        assert await all_of(opened, TESTCHAIN) == testchain
        stats = opened.stats()
    assert stats.throttled == node.stats()["calls"]["429"] > 0


async def test_413_makes_batches_smaller(node: Replay, testchain: list[BlockAndReceipts]) -> None:
    node.control(max_batch=6)
    async with source(node.url, rpc_batch_size=50) as opened:
        assert await all_of(opened, TESTCHAIN) == testchain
        assert opened.stats().splits >= 1
        assert opened.stats().retries == 0


async def test_requests_overlap(node: Replay, testchain: list[BlockAndReceipts]) -> None:
    node.control(latency_ms=100)
    async with source(node.url) as opened:
        async with asyncio.timeout(5):  # 100 requests one by one would take ten seconds
            assert await all_of(opened, TESTCHAIN) == testchain


async def test_a_block_that_is_not_there_yet_is_waited_for_then_named(node: Replay) -> None:
    node.control(head=40)
    with pytest.raises(BlockUnavailable, match=r"block 41: .*6 tries.*lag"):
        await fetch(node, Span(39, 44))


async def test_head_and_finalized(node: Replay, testchain: list[BlockAndReceipts]) -> None:
    node.control(head=50, final=30)
    async with source(node.url) as opened:
        latest, finalized = await opened.head("latest"), await opened.head("finalized")
    block = testchain[50].block
    assert (latest.number, finalized.number) == (50, 30)
    assert "0x" + latest.hash.hex() == block.hash
    assert "0x" + latest.parent_hash.hex() == block.parent_hash
    assert latest.timestamp == quantity(block.timestamp)


async def test_another_chain_is_refused(node: Replay) -> None:
    right = EvmRpcSource(provider(node.url), expected_chain_id=node.chain_id)
    await right.start()
    await right.close()
    wrong = EvmRpcSource(provider(node.url), expected_chain_id=1)
    with pytest.raises(WrongChain, match=f"serves chain {node.chain_id}, but test is chain 1"):
        await wrong.start()
    await wrong.close()


async def test_8192_empty_blocks_need_no_receipts(chain_data: Path) -> None:
    with replay("mainnet-era1-00000") as node:
        blocks = await fetch(node, Span(0, 8191), rpc_batch_size=50)
        calls = node.stats()["calls"]
    assert [quantity(fetched.block.number) for fetched in blocks] == list(range(8192))
    assert all(after.block.parent_hash == before.block.hash for before, after in pairwise(blocks))
    assert calls.get("eth_getBlockReceipts", 0) == 0


@pytest.mark.parametrize(
    "name", ["rpc-mainnet", "mainnet-forks", "rpc-polygon", "chainstorage-base-goerli", "rpc-arbitrum"]
)
async def test_blocks_of_other_chains_and_dialects_pass_the_checks(chain_data: Path, name: str) -> None:
    with gzip.open(chain_data / name / "blocks.jsonl.gz") as lines:
        recorded = [msgspec.json.decode(line, type=Line) for line in lines]
    with replay(name) as node:
        async with source(node.url) as opened:
            for line in recorded:
                number = quantity(line.block.number)
                assert await all_of(opened, Span(number, number)) == [BlockAndReceipts(line.block, line.receipts)]
