"""The devnet's chain is deterministic, linked, varied, and valid by an independent check."""

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.devnet.blocks import DevBlock
from ampd_ray.devnet.chain import DevChain
from tests.fakes.places import RPC_TOOLS, needs

VERIFY = RPC_TOOLS / "verify.py"


def chain_of(blocks: int, seed: int = 1, txs_per_block: int = 4) -> DevChain:
    chain = DevChain(seed, txs_per_block)
    chain.mine(blocks)
    return chain


def blocks_of(chain: DevChain) -> list[DevBlock]:
    return [block for block in map(chain.block, range(chain.head.number + 1)) if block]


def shown(block: DevBlock) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(block.json(full=True))
    return answer


def hashes(chain: DevChain) -> list[bytes]:
    return [block.hash for block in blocks_of(chain)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    assert blocks_of(chain_of(20)) == blocks_of(chain_of(20))
    assert not set(hashes(chain_of(20, seed=2))) & set(hashes(chain_of(20)))


def test_mining_in_steps_gives_the_same_chain() -> None:
    chain = DevChain(5)
    for _ in range(10):
        chain.mine()
    assert hashes(chain) == hashes(chain_of(10, seed=5))


def test_blocks_are_numbered_and_linked() -> None:
    blocks = [shown(block) for block in blocks_of(chain_of(20))]
    assert [int(block["number"], 16) for block in blocks] == list(range(21))
    assert blocks[0]["parentHash"] == "0x" + "00" * 32
    assert all(child["parentHash"] == parent["hash"] for parent, child in pairwise(blocks))
    assert all(int(child["timestamp"], 16) - int(parent["timestamp"], 16) == 12 for parent, child in pairwise(blocks))


def test_the_chain_has_every_kind_of_transaction_receipt_and_log() -> None:
    seen: Counter[str] = Counter()
    for block in blocks_of(chain_of(150)):
        transactions = shown(block)["transactions"]
        receipts = json.loads(block.receipts_json())
        seen["empty block"] += not transactions
        for transaction, receipt in zip(transactions, receipts, strict=True):
            seen[f"type {transaction['type']}"] += 1
            seen["unprotected"] += transaction["v"] in ("0x1b", "0x1c")
            seen["creation"] += transaction["to"] is None and receipt["contractAddress"] is not None
            seen["access list"] += bool(transaction.get("accessList"))
            seen[f"status {receipt['status']}"] += 1
            seen.update(f"{len(log['topics'])} topics" for log in receipt["logs"])
            seen["log without data"] += any(log["data"] == "0x" for log in receipt["logs"])
    expected = {"empty block", "type 0x0", "type 0x1", "type 0x2", "unprotected", "creation", "access list"}
    expected |= {"status 0x0", "status 0x1", "0 topics", "3 topics", "4 topics", "log without data"}
    assert expected <= {name for name, count in seen.items() if count}


def test_the_token_transfer_log_has_the_well_known_topic() -> None:
    transfer = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    receipts = [json.loads(receipt) for block in blocks_of(chain_of(20)) for receipt in block.receipts]
    assert transfer in {log["topics"][0] for receipt in receipts for log in receipt["logs"] if log["topics"]}


def test_log_indices_and_cumulative_gas_count_through_the_block() -> None:
    for block in blocks_of(chain_of(50)):
        receipts = json.loads(block.receipts_json())
        logs = [log for receipt in receipts for log in receipt["logs"]]
        gas = 0
        assert [int(log["logIndex"], 16) for log in logs] == list(range(len(logs)))
        for receipt in receipts:
            gas += int(receipt["gasUsed"], 16)
            assert int(receipt["cumulativeGasUsed"], 16) == gas
        assert int(shown(block)["gasUsed"], 16) == gas


def test_nonces_of_each_sender_count_up() -> None:
    sent: dict[str, list[int]] = {}
    for block in blocks_of(chain_of(50)):
        for transaction in shown(block)["transactions"]:
            sent.setdefault(transaction["from"], []).append(int(transaction["nonce"], 16))
    assert all(nonces == list(range(len(nonces))) for nonces in sent.values())


def test_a_reorg_replaces_the_last_blocks_and_keeps_the_height() -> None:
    chain = chain_of(20)
    before = blocks_of(chain)
    chain.reorg(5)
    after = blocks_of(chain)
    assert [block.hash for block in after[:16]] == [block.hash for block in before[:16]]
    assert not {block.hash for block in after[16:]} & {block.hash for block in before[16:]}
    assert len(after) == len(before)


def test_a_reorg_is_reproducible_and_each_one_gives_another_branch() -> None:
    one, other = chain_of(20), chain_of(20)
    one.reorg(5)
    other.reorg(5)
    assert hashes(one) == hashes(other)
    other.reorg(5)
    assert hashes(one)[16:] != hashes(other)[16:]


def test_orphans_stay_by_hash_but_their_transactions_are_gone() -> None:
    chain = chain_of(20)
    orphan = next(block for block in reversed(blocks_of(chain)) if block.hashes)
    assert chain.place(orphan.hashes[0]) == (orphan, 0)
    chain.reorg(20)
    assert chain.by_hash(orphan.hash) is orphan
    assert chain.place(orphan.hashes[0]) is None


def test_an_orphaned_branch_comes_back_with_its_transactions() -> None:
    chain = chain_of(20)
    before = hashes(chain)
    chain.reorg(5)
    other = chain.mine(2)
    assert chain.switch(before[-1]).number == 20
    assert hashes(chain) == before
    assert all(chain.place(digest) for block in blocks_of(chain) for digest in block.hashes)
    assert not any(chain.place(digest) for digest in other.hashes)
    assert chain.switch(other.hash) is other
    assert chain.switch(other.hash) is other
    assert chain.switch(before[3]).number == 3
    assert hashes(chain) == before[:4]
    with pytest.raises(ValueError, match="no block has the hash 0x3f3f"):
        chain.switch(b"?" * 32)


@pytest.mark.parametrize("depth", [0, -1, 4])
def test_a_reorg_out_of_bounds_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="head is block 3"):
        chain_of(3).reorg(depth)


def test_blocks_above_the_head_and_below_zero_are_missing() -> None:
    chain = chain_of(3)
    assert chain.block(3) is chain.head
    assert chain.block(4) is None
    assert chain.block(-1) is None


def test_gas_stays_within_the_limit_and_the_base_fee_rises_when_blocks_are_full() -> None:
    blocks = blocks_of(chain_of(4, txs_per_block=1_000))
    assert all(block.gas_used <= 30_000_000 for block in blocks)
    assert any(child.base_fee > parent.base_fee for parent, child in pairwise(blocks))


def test_a_chain_without_transactions_has_only_empty_blocks() -> None:
    assert not any(block.hashes for block in blocks_of(chain_of(10, txs_per_block=0)))


def test_an_independent_check_verifies_every_hash_root_bloom_and_sender(tmp_path: Path) -> None:
    needs(VERIFY)
    chain = chain_of(120, seed=3, txs_per_block=8)
    chain.reorg(10)
    dump = tmp_path / "blocks.jsonl"
    with dump.open("wb") as lines:
        for block in blocks_of(chain):
            lines.write(b'{"block":%b,"receipts":%b}\n' % (block.json(full=True), block.receipts_json()))
    command = [sys.executable, str(VERIFY), "--senders", str(dump)]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert report["counts"]["full_ok"] == report["counts"]["senders:ok"] == 121
    assert report["contiguous_links"] == 120
    assert report["notes"] == {}
