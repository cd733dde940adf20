"""Rows back into the bytes that a block commits to: header, transaction envelopes, receipts (data.md 9.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from ampd_ray.datasets.evm.hashing import RlpItem, bloom_of, rlp_encode
from ampd_ray.datasets.evm.kinds import ACCESS_LIST, BLOB, LEGACY, SET_CODE
from ampd_ray.datasets.evm.rows import HeaderRow, LogRow, TransactionRow

T = TypeVar("T")


class InconsistentRowError(ValueError):
    """A row lacks what its fork or type requires, or has what it cannot have."""


def header_bytes(header: HeaderRow) -> bytes:
    """What a block's hash is the hash of. Raises InconsistentRowError for a gap in the optional fields."""
    required: list[RlpItem] = [
        header.parent_hash,
        header.ommers_hash,
        header.miner,
        header.state_root,
        header.transactions_root,
        header.receipt_root,
        header.logs_bloom,
        header.difficulty,
        header.block_num,
        header.gas_limit,
        header.gas_used,
        header.timestamp,
        header.extra_data,
        header.mix_hash,
        header.nonce.to_bytes(8, "big"),
    ]
    optional = (
        header.base_fee_per_gas,
        header.withdrawals_root,
        header.blob_gas_used,
        header.excess_blob_gas,
        header.parent_beacon_root,
        header.requests_hash,
    )
    present = [value for value in optional if value is not None]
    if (len(present) < len(optional) and optional[len(present)] is not None) or None in optional[: len(present)]:
        raise InconsistentRowError("a header field is set that its fork does not have")
    return rlp_encode([*required, *present])


def envelope(tx: TransactionRow) -> bytes:
    """What a transaction of types 0 to 4 is signed and hashed as. Raises InconsistentRowError for a missing field."""
    signature: list[RlpItem] = [_number(tx.r), _number(tx.s)]
    recipient: list[RlpItem] = [tx.gas_limit, tx.to or b"", tx.value, tx.input]
    if tx.type == LEGACY:
        v = 27 + tx.v_parity if tx.chain_id is None else 35 + 2 * tx.chain_id + tx.v_parity
        return rlp_encode([tx.nonce, _required(tx.gas_price, "gas_price"), *recipient, v, *signature])
    if tx.type >= BLOB and tx.to is None:
        raise InconsistentRowError(f"transaction {tx.tx_index} of type {tx.type} has no to")
    chain_id = _required(tx.chain_id, "chain_id")
    fields: list[RlpItem] = [chain_id, tx.nonce, *_fees(tx), *recipient, _accesses(tx), *_extras(tx)]
    return bytes([tx.type]) + rlp_encode([*fields, int(tx.v_parity), *signature])


def _fees(tx: TransactionRow) -> list[RlpItem]:
    if tx.type == ACCESS_LIST:
        return [_required(tx.gas_price, "gas_price")]
    return [
        _required(tx.max_priority_fee_per_gas, "max_priority_fee_per_gas"),
        _required(tx.max_fee_per_gas, "max_fee_per_gas"),
    ]


def _accesses(tx: TransactionRow) -> list[RlpItem]:
    return [[entry["address"], entry["storage_keys"]] for entry in _required(tx.access_list, "access_list")]


def _extras(tx: TransactionRow) -> list[RlpItem]:
    if tx.type == BLOB:
        hashes: list[RlpItem] = [*_required(tx.blob_versioned_hashes, "blob_versioned_hashes")]
        return [_required(tx.max_fee_per_blob_gas, "max_fee_per_blob_gas"), hashes]
    if tx.type == SET_CODE:
        return [[_authorization(entry) for entry in _required(tx.authorization_list, "authorization_list")]]
    return []


def _authorization(entry: dict[str, Any]) -> RlpItem:
    numbers = [int(entry["y_parity"]), _number(entry["r"]), _number(entry["s"])]
    return [entry["chain_id"], entry["address"], entry["nonce"], *numbers]


def receipt(tx: TransactionRow, logs: Sequence[LogRow], extra: Sequence[RlpItem] = ()) -> bytes:
    """What the receipts root has at the transaction's position; ``extra`` fields are those of OP deposits."""
    outcome: RlpItem = int(tx.status) if tx.state_root is None else tx.state_root
    bloom = bloom_of(entry for log in logs for entry in (log.address, *log.topics))
    entries: list[RlpItem] = [[log.address, log.topics, log.data] for log in logs]
    encoded = rlp_encode([outcome, tx.gas_used, bloom, entries, *extra])
    return encoded if tx.type == LEGACY else bytes([tx.type]) + encoded


def _number(word: bytes) -> int:
    return int.from_bytes(word, "big")


def _required(value: T | None, column: str) -> T:
    if value is None:
        raise InconsistentRowError(f"{column} is null")
    return value
