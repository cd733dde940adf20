"""Small literal blocks as a node answers them: sound ones, of which tests change a field or two."""

from __future__ import annotations

import json
from typing import Any

from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts
from ampd_ray.datasets.evm.schemas import SCHEMAS
from tests.reference import comparable

H32 = "0x" + "ab" * 32
ADDRESS = "0x" + "Cd" * 20
NETWORK = "devnet"
AUTHORIZATION = {"chainId": "0x1", "address": ADDRESS, "nonce": "0x3", "yParity": "0x1", "r": "0x4", "s": H32}
BLOB = {"type": "0x3", "maxFeePerBlobGas": "0x5", "blobVersionedHashes": [H32]}
SET_CODE = {"type": "0x4", "authorizationList": [AUTHORIZATION]}


def typed(answer: dict[str, Any]) -> BlockAndReceipts:
    """The answer as the product parses it."""
    block = BLOCK.decode(json.dumps(answer["block"]))
    assert block is not None
    receipts = RECEIPTS.decode(json.dumps(answer["receipts"])) or []
    return BlockAndReceipts(block, [receipt for receipt in receipts if receipt is not None])


def header(**changes: Any) -> dict[str, Any]:
    """Block 7 without transactions."""
    return {
        "number": "0x7",
        "timestamp": "0x10",
        "hash": H32,
        "parentHash": H32,
        "sha3Uncles": H32,
        "miner": ADDRESS,
        "stateRoot": H32,
        "transactionsRoot": H32,
        "receiptsRoot": H32,
        "logsBloom": "0x" + "00" * 256,
        "difficulty": "0x1",
        "gasLimit": "0x1c9c380",
        "gasUsed": "0x5208",
        "extraData": "0x",
        "transactions": [],
    } | changes


def legacy(**changes: Any) -> dict[str, Any]:
    """A protected transaction of type 0."""
    return {
        "hash": H32,
        "from": ADDRESS,
        "to": ADDRESS,
        "nonce": "0x1",
        "gas": "0x5208",
        "gasPrice": "0x64",
        "value": "0x0",
        "input": "0x",
        "v": "0x25",
        "r": "0x1",
        "s": "0x2",
        "type": "0x0",
    } | changes


def dynamic(**changes: Any) -> dict[str, Any]:
    """A transaction of type 2."""
    fees = {"maxFeePerGas": "0xc8", "maxPriorityFeePerGas": "0x1", "type": "0x2", "chainId": "0x1", "v": "0x1"}
    return legacy(accessList=[], yParity="0x1") | fees | changes


def receipt(**changes: Any) -> dict[str, Any]:
    """The receipt of one transaction."""
    return {"transactionHash": H32, "cumulativeGasUsed": "0x5208", "status": "0x1", "logs": []} | changes


def log(**changes: Any) -> dict[str, Any]:
    """A log of block 7."""
    return {
        "address": ADDRESS,
        "topics": [H32],
        "data": "0x",
        "blockNumber": "0x7",
        "blockHash": H32,
        "transactionHash": H32,
        "transactionIndex": "0x0",
        "logIndex": "0x0",
    } | changes


def answer(*transactions: dict[str, Any], receipts: list[dict[str, Any]] | None = None, **head: Any) -> dict[str, Any]:
    """Block 7 with these transactions, and their receipts."""
    return {
        "block": header(transactions=list(transactions), **head),
        "receipts": [receipt() for _ in transactions] if receipts is None else receipts,
    }


def row(transaction: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The one row of table ``transactions`` for a transaction and a receipt with ``changes``."""
    table = decode([typed(answer(transaction, receipts=[receipt(**changes)]))], NETWORK)["transactions"]
    table.validate(full=True)
    assert table.schema.equals(SCHEMAS["transactions"], check_metadata=True)
    return comparable(table)[0]


def rows_of(block: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """The rows of one table for one answer."""
    return comparable(decode([typed(block)], NETWORK)[table])


def without(transaction: dict[str, Any], *fields: str) -> dict[str, Any]:
    """The transaction without some of its fields."""
    return {name: value for name, value in transaction.items() if name not in fields}
