"""The answers that geth gave in the execution-apis specification: each is accepted, and says what the set says."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ampd_ray.datasets.evm.checks import check
from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPT, RECEIPTS, BlockAndReceipts, RpcTransaction, quantity
from tests.reference import comparable, read_set, reference_rows

NAME = "testchain-execution-apis"


class Recorded(NamedTuple):
    method: str
    params: list[Any]
    result: str


@pytest.fixture(scope="module")
def recordings(chain_data: Path) -> list[Recorded]:
    with tarfile.open(chain_data / NAME / "io.tar.gz") as archive:
        files = [archive.extractfile(member) for member in archive if member.name.endswith(".io")]
        return [one for file in files if file for one in exchanges(file.read().decode())]


def exchanges(text: str) -> Iterator[Recorded]:
    lines = [line for line in text.splitlines() if line[:3] in (">> ", "<< ")]
    for asked, answered in zip(lines[::2], lines[1::2], strict=True):
        call, reply = json.loads(asked[3:]), json.loads(answered[3:])
        if "result" in reply:
            yield Recorded(call["method"], call.get("params", []), json.dumps(reply["result"]))


@pytest.fixture(scope="module")
def blocks(chain_data: Path) -> dict[int, dict[str, Any]]:
    return {int(answer["block"]["number"], 16): answer for answer in read_set(chain_data / NAME)}


def test_blocks(recordings: list[Recorded], blocks: dict[int, dict[str, Any]]) -> None:
    seen: Counter[str] = Counter()
    for one in recordings:
        if not one.method.startswith("eth_getBlockBy"):
            continue
        block = BLOCK.decode(one.result)
        if block is None:
            seen["null"] += 1
        elif all(isinstance(tx, str) for tx in block.transactions or ()):
            seen["hashes only"] += 1
        else:
            answer = blocks[quantity(block.number)]
            checked = check(block, RECEIPTS.decode(json.dumps(answer["receipts"])), quantity(block.number), NAME)
            tables = decode([checked], NAME)
            assert {name: comparable(table) for name, table in tables.items()} == reference_rows([answer])
            seen["full"] += 1
    assert seen["full"] >= 4
    assert sum(seen.values()) >= 12


def test_receipts(recordings: list[Recorded], blocks: dict[int, dict[str, Any]]) -> None:
    compared = 0
    for one in recordings:
        if one.method != "eth_getBlockReceipts":
            continue
        receipts = RECEIPTS.decode(one.result)
        if receipts:
            assert receipts[0] is not None
            answer = next(a for a in blocks.values() if a["block"]["hash"] == receipts[0].block_hash)
            assert receipts == RECEIPTS.decode(json.dumps(answer["receipts"]))
            compared += 1
    assert compared >= 3


def test_receipts_and_transactions_one_by_one(recordings: list[Recorded], blocks: dict[int, dict[str, Any]]) -> None:
    whole = [msgspec.json.decode(json.dumps(answer), type=BlockAndReceipts) for answer in blocks.values()]
    transactions = {tx.hash: tx for block in whole for tx in block.transactions}
    receipts = {receipt.transaction_hash: receipt for block in whole for receipt in block.receipts}
    compared = 0
    for one in recordings:
        if one.result == "null":
            continue
        if one.method == "eth_getTransactionReceipt":
            receipt = RECEIPT.decode(one.result)
            assert receipt is not None
            assert receipt == receipts[receipt.transaction_hash]
        elif one.method == "eth_getTransactionByHash":
            transaction = msgspec.json.decode(one.result, type=RpcTransaction)
            assert transaction == transactions[transaction.hash]
        else:
            continue
        compared += 1
    assert compared >= 10
