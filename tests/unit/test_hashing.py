"""Keccak, RLP, trie roots and blooms: published vectors, then every block of the real chain data."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.datasets.evm import hashing

ETHEREUM_SETS = ("testchain-execution-apis", "mainnet-forks", "rpc-mainnet", "rpc-ropsten-rosetta")


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def blocks_of(folder: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    with gzip.open(folder / "blocks.jsonl.gz", "rt") as lines:
        for line in lines:
            record = json.loads(line)
            yield record["block"], record["receipts"] or []


def test_keccak_is_not_sha3() -> None:
    assert hashing.keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_the_empty_root_and_empty_ommers_are_the_known_ones() -> None:
    assert hashing.EMPTY_ROOT.hex() == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    assert hashing.EMPTY_OMMERS.hex() == "1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
    assert hashing.ordered_trie_root([]) == hashing.EMPTY_ROOT


@pytest.mark.parametrize(
    ("item", "encoded"),
    [
        (b"dog", "83646f67"),
        ([b"cat", b"dog"], "c88363617483646f67"),
        (b"", "80"),
        ([], "c0"),
        (0, "80"),
        (15, "0f"),
        (1024, "820400"),
        ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
        (b"\x00", "00"),
        (b"\x7f", "7f"),
        (b"\x80", "8180"),
        (b"a" * 55, "b7" + "61" * 55),
        (b"a" * 56, "b838" + "61" * 56),
        ([b"a" * 56], "f83a" + "b838" + "61" * 56),
    ],
)
def test_rlp_of_the_published_vectors(item: hashing.RlpItem, encoded: str) -> None:
    assert hashing.rlp_encode(item).hex() == encoded


nested = st.recursive(st.binary(max_size=80), lambda children: st.lists(children, max_size=8), max_leaves=40)


@given(nested)
def test_rlp_equals_the_rlp_package(item: hashing.RlpItem) -> None:
    assert hashing.rlp_encode(item) == rlp.encode(item)


@given(st.integers(min_value=0, max_value=2**300))
def test_rlp_of_integers_equals_the_rlp_package(number: int) -> None:
    assert hashing.rlp_encode(number) == rlp.encode(number)


def test_rlp_takes_tuples_and_refuses_negative_numbers() -> None:
    assert hashing.rlp_encode((1, (2, b"x"))) == hashing.rlp_encode([1, [2, b"x"]])
    with pytest.raises(OverflowError):
        hashing.rlp_encode(-1)


def test_tiny_values_are_held_inside_their_parents() -> None:
    """Nodes below 32 bytes are embedded, not hashed: here two leaves inside one branch."""
    branch: list[hashing.RlpItem] = [b""] * 17
    branch[0] = [b"\x31", b"b"]  # key 0x01 = nibbles 0, 1
    branch[8] = [b"\x30", b"a"]  # key 0x80 = nibbles 8, 0
    assert hashing.ordered_trie_root([b"a", b"b"]) == hashing.keccak256(hashing.rlp_encode(branch))


@pytest.mark.parametrize("name", ETHEREUM_SETS)
def test_blooms_and_withdrawal_roots_of_real_blocks(chain_data: Path, name: str) -> None:
    blocks = 0
    for block, receipts in blocks_of(chain_data / name):
        logs = [log for receipt in receipts for log in receipt["logs"]]
        entries = [raw(entry) for log in logs for entry in [log["address"], *log["topics"]]]
        assert hashing.bloom_of(entries) == raw(block["logsBloom"])
        if block.get("withdrawalsRoot"):
            assert hashing.ordered_trie_root(withdrawals(block)) == raw(block["withdrawalsRoot"])
        blocks += 1
    assert blocks


def withdrawals(block: dict[str, Any]) -> list[bytes]:
    return [
        hashing.rlp_encode([int(w["index"], 16), int(w["validatorIndex"], 16), raw(w["address"]), int(w["amount"], 16)])
        for w in block["withdrawals"]
    ]


@pytest.mark.parametrize("name", ETHEREUM_SETS)
def test_transaction_roots_and_hashes_of_blocks_with_legacy_transactions(chain_data: Path, name: str) -> None:
    """Blocks of one to hundreds of transactions, whose consensus encoding is plain RLP."""
    roots = 0
    for block, _ in blocks_of(chain_data / name):
        transactions = block["transactions"]
        if any(int(t.get("type") or "0x0", 16) for t in transactions):
            continue
        encoded = [legacy(transaction) for transaction in transactions]
        assert [hashing.keccak256(e) for e in encoded] == [raw(t["hash"]) for t in transactions]
        assert hashing.ordered_trie_root(encoded) == raw(block["transactionsRoot"])
        roots += bool(encoded)
    assert roots


def legacy(transaction: dict[str, Any]) -> bytes:
    """Consensus encoding of a type 0 transaction."""
    numbers = {key: int(transaction[key], 16) for key in ("nonce", "gasPrice", "gas", "value", "v", "r", "s")}
    to = raw(transaction["to"]) if transaction["to"] else b""
    head: list[hashing.RlpItem] = [
        numbers["nonce"],
        numbers["gasPrice"],
        numbers["gas"],
        to,
        numbers["value"],
        raw(transaction["input"]),
    ]
    return hashing.rlp_encode([*head, numbers["v"], numbers["r"], numbers["s"]])
