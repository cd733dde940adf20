"""A plain, slow decoder of ``eth_getBlockByNumber`` and ``eth_getBlockReceipts``, written from data.md 1 alone.

Row dicts of Python integers, bytes and lists; it shares no code with the product, whose tables are compared with
it row by row. ``comparable`` brings an Arrow table to the same form.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_set(folder: Path) -> Iterator[dict[str, Any]]:
    """The ``{"block", "receipts"}`` objects of one set of chain data."""
    with gzip.open(folder / "blocks.jsonl.gz", "rt") as lines:
        for line in lines:
            yield json.loads(line)


def reference_rows(answers: list[dict[str, Any]]) -> dict[str, list[Row]]:
    """The rows of all three tables, in order, for ``{"block", "receipts"}`` objects."""
    rows: dict[str, list[Row]] = {"blocks": [], "transactions": [], "logs": []}
    for answer in answers:
        header, receipts = answer["block"], answer["receipts"] or []
        rows["blocks"].append(_block(header))
        for index, transaction in enumerate(header["transactions"]):
            rows["transactions"].append(_transaction(header, index, transaction, receipts[index]))
            rows["logs"] += [_log(header, log) for log in receipts[index]["logs"]]
    return rows


def comparable(table: Any) -> list[Row]:
    """The rows of an Arrow table as ``reference_rows`` would give them: timestamps and decimals as integers."""
    columns: dict[str, list[Any]] = {}
    for name in table.column_names:
        column = table[name]
        kind = str(column.type)
        if kind.startswith("timestamp"):
            columns[name] = column.cast("int64").to_pylist()
        elif kind.startswith("decimal"):
            columns[name] = [None if value is None else int(value) for value in column.to_pylist()]
        else:
            columns[name] = column.to_pylist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _bytes(text: str) -> bytes:
    assert _is_hex(text), text  # fromhex would take blanks
    return bytes.fromhex(text[2:])


def _int(value: str | int) -> int:
    if type(value) is int:
        assert value >= 0, value
        return value
    assert _is_hex(value), value  # int would take 0x_1
    return int(str(value), 16)


def _is_hex(value: object) -> bool:
    return isinstance(value, str) and value[:2].lower() == "0x" and value.isascii() and value.isalnum()


def _address(text: str) -> bytes:
    address = _bytes(text)
    assert len(address) == 20, text
    return address


def _maybe_int(value: str | int | None) -> int | None:
    return None if value is None else _int(value)


def _maybe_bytes(text: str | None) -> bytes | None:
    return None if text is None else _bytes(text)


def _block(header: dict[str, Any]) -> Row:
    number = _int(header["number"])
    return {
        "_block_num": number,
        "block_num": number,
        "timestamp": _int(header["timestamp"]) * 1_000_000_000,
        "hash": _bytes(header["hash"]),
        "parent_hash": _bytes(header["parentHash"]),
        "ommers_hash": _bytes(header["sha3Uncles"]),
        "miner": _bytes(header["miner"]),
        "state_root": _bytes(header["stateRoot"]),
        "transactions_root": _bytes(header["transactionsRoot"]),
        "receipt_root": _bytes(header["receiptsRoot"]),
        "logs_bloom": _bytes(header["logsBloom"]),
        "difficulty": _int(header["difficulty"]),
        "total_difficulty": _maybe_int(header.get("totalDifficulty")),
        "gas_limit": _int(header["gasLimit"]),
        "gas_used": _int(header["gasUsed"]),
        "extra_data": _bytes(header["extraData"]),
        "mix_hash": _maybe_bytes(header.get("mixHash")) or bytes(32),
        "nonce": _maybe_int(header.get("nonce")) or 0,
        "base_fee_per_gas": _maybe_int(header.get("baseFeePerGas")),
        "withdrawals_root": _maybe_bytes(header.get("withdrawalsRoot")),
        "blob_gas_used": _maybe_int(header.get("blobGasUsed")),
        "excess_blob_gas": _maybe_int(header.get("excessBlobGas")),
        "parent_beacon_root": _maybe_bytes(header.get("parentBeaconBlockRoot")),
        "requests_hash": _maybe_bytes(header.get("requestsHash")),
    }


def _transaction(header: dict[str, Any], index: int, tx: dict[str, Any], receipt: dict[str, Any]) -> Row:
    number = _int(header["number"])
    kind = _int(tx.get("type") or 0)
    row = {
        "_block_num": number,
        "block_hash": _bytes(header["hash"]),
        "block_num": number,
        "timestamp": _int(header["timestamp"]) * 1_000_000_000,
        "tx_index": index,
        "tx_hash": _bytes(tx["hash"]),
        "from": _bytes(tx["from"]),
        "type": kind,
        "gas_used": _int(receipt["cumulativeGasUsed"]),
    }
    status = receipt.get("status")
    row["status"] = True if status is None else _int(status) == 1
    row["state_root"] = _bytes(receipt["root"]) if status is None else None
    return row | (_known(tx, kind) if kind <= 4 else _unknown(tx))


def _known(tx: dict[str, Any], kind: int) -> Row:
    legacy_fee = kind in (0, 1)
    return {
        "to": _maybe_bytes(tx.get("to")),
        "nonce": _int(tx["nonce"]),
        "gas_price": _int(tx["gasPrice"]) if legacy_fee else None,
        "gas_limit": _int(tx["gas"]),
        "value": str(_int(tx["value"])),
        "input": _bytes(tx["input"]),
        "r": _int(tx["r"]).to_bytes(32, "big"),
        "s": _int(tx["s"]).to_bytes(32, "big"),
        "v_parity": _parity(tx),
        "chain_id": _chain_id(tx) if kind == 0 else _int(tx["chainId"]),
        "max_fee_per_gas": _int(tx["gasPrice"] if legacy_fee else tx["maxFeePerGas"]),
        "max_priority_fee_per_gas": None if legacy_fee else _int(tx["maxPriorityFeePerGas"]),
        "max_fee_per_blob_gas": _int(tx["maxFeePerBlobGas"]) if kind == 3 else None,
        "access_list": None if kind == 0 else _access_list(tx["accessList"]),
        "blob_versioned_hashes": [_bytes(h) for h in tx["blobVersionedHashes"]] if kind == 3 else None,
        "authorization_list": [_authorization(a) for a in tx["authorizationList"]] if kind == 4 else None,
    }


def _parity(tx: dict[str, Any]) -> bool:
    if tx.get("yParity") is not None:
        return _int(tx["yParity"]) == 1
    v = _int(tx["v"])
    if v in (27, 28):
        return v == 28
    return (v - 35) % 2 == 1 if v >= 35 else v == 1


def _chain_id(tx: dict[str, Any]) -> int | None:
    v = _maybe_int(tx.get("v"))
    if v in (27, 28):
        return None
    if v is not None and v >= 35:
        return (v - 35) // 2
    return _maybe_int(tx.get("chainId"))


def _access_list(entries: list[dict[str, Any]] | None) -> list[Row]:
    return [
        {"address": _bytes(entry["address"]), "storage_keys": [_bytes(key) for key in entry["storageKeys"]]}
        for entry in entries or []
    ]


def _authorization(entry: dict[str, Any]) -> Row:
    chain_id = _int(entry["chainId"])
    return {
        "chain_id": chain_id if chain_id < 2**64 else 0,
        "address": _bytes(entry["address"]),
        "nonce": _int(entry["nonce"]),
        "y_parity": _int(entry["yParity"] if "yParity" in entry else entry["v"]) == 1,
        "r": _int(entry["r"]).to_bytes(32, "big"),
        "s": _int(entry["s"]).to_bytes(32, "big"),
    }


def _unknown(tx: dict[str, Any]) -> Row:
    def lenient(field: str, read: Any, default: Any) -> Any:
        try:
            return read(tx[field])
        except (KeyError, ValueError, TypeError, AssertionError):
            return default

    return {
        "to": lenient("to", _address, None),
        "nonce": lenient("nonce", _int, 0),
        "gas_price": None,
        "gas_limit": lenient("gas", _int, 0),
        "value": str(lenient("value", _int, 0)),
        "input": lenient("input", _bytes, b""),
        "r": bytes(32),
        "s": bytes(32),
        "v_parity": False,
        "chain_id": lenient("chainId", _int, None),
        "max_fee_per_gas": lenient("maxFeePerGas", _int, 0),
        "max_priority_fee_per_gas": lenient("maxPriorityFeePerGas", _int, None),
        "max_fee_per_blob_gas": None,
        "access_list": None,
        "blob_versioned_hashes": None,
        "authorization_list": None,
    }


def _log(header: dict[str, Any], log: dict[str, Any]) -> Row:
    number = _int(log["blockNumber"])
    assert number == _int(header["number"])
    topics = [_bytes(topic) for topic in log["topics"]] + [None] * 4
    assert len(topics) <= 8
    return {
        "_block_num": number,
        "block_hash": _bytes(log["blockHash"]),
        "block_num": number,
        "timestamp": _int(header["timestamp"]) * 1_000_000_000,
        "tx_hash": _bytes(log["transactionHash"]),
        "tx_index": _int(log["transactionIndex"]),
        "log_index": _int(log["logIndex"]),
        "address": _bytes(log["address"]),
        "topic0": topics[0],
        "topic1": topics[1],
        "topic2": topics[2],
        "topic3": topics[3],
        "data": _bytes(log["data"]),
    }
