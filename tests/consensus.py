"""Blocks rebuilt from rows alone: what their headers, transactions and receipts hash to (data.md 9.1).

Written apart from the product and sharing no code with it: rows are dicts as ``tests.reference`` makes them, RLP is
the package ``rlp``, Keccak-256 is pycryptodome's, the trie is the recursive definition, slow and plain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import rlp
from Crypto.Hash import keccak as _keccak

from tests.reference import Row

ZERO_ADDRESS = bytes(20)
LATER_HEADER_FIELDS = [
    "base_fee_per_gas",
    "withdrawals_root",
    "blob_gas_used",
    "excess_blob_gas",
    "parent_beacon_root",
    "requests_hash",
]


@dataclass(frozen=True)
class Rebuilt:
    """What the rows of one block hash to. Roots are None where it has a type whose encoding the rows cannot give."""

    block_hash: bytes
    transactions_root: bytes | None
    receipts_root: bytes | None
    transaction_hashes: dict[int, bytes]  # by tx_index, of types 0 to 4


def rebuild(block: Row, transactions: list[Row], logs: list[Row]) -> Rebuilt:
    """Hash one block; transactions in their order, logs in theirs."""
    signed = [tx for tx in transactions if not _state_sync(tx)]
    known = {tx["tx_index"]: _envelope(tx) for tx in signed if tx["type"] <= 4}
    of_tx: dict[int, list[Row]] = {tx["tx_index"]: [] for tx in transactions}
    for log in logs:
        of_tx[log["tx_index"]].append(log)
    complete = len(known) == len(signed)
    return Rebuilt(
        block_hash=keccak256(rlp.encode(_header(block))),
        transactions_root=ordered_root(list(known.values())) if complete else None,
        receipts_root=ordered_root([_receipt(tx, of_tx[tx["tx_index"]]) for tx in signed]) if complete else None,
        transaction_hashes={index: keccak256(encoded) for index, encoded in known.items()},
    )


def keccak256(data: bytes) -> bytes:
    digest: bytes = _keccak.new(digest_bits=256, data=data).digest()
    return digest


def ordered_root(values: list[bytes]) -> bytes:
    """The root of the Merkle-Patricia trie that has each value under the RLP of its position."""
    if not values:
        return keccak256(rlp.encode(b""))
    pairs = [(list(rlp.encode(index).hex()), value) for index, value in enumerate(values)]
    return keccak256(rlp.encode(_node([([int(digit, 16) for digit in key], value) for key, value in pairs])))


def _node(pairs: list[tuple[list[int], bytes]]) -> list[Any]:
    """A leaf, an extension or a branch over what is left of the keys, none of which is another's prefix."""
    if len(pairs) == 1:
        key, value = pairs[0]
        return [_hex_prefix(key, leaf=True), value]
    shared = 0
    while len({key[shared] for key, _ in pairs}) == 1:
        shared += 1
    if shared:
        rest = _node([(key[shared:], value) for key, value in pairs])
        return [_hex_prefix(pairs[0][0][:shared], leaf=False), _reference(rest)]
    children = [[(key[1:], value) for key, value in pairs if key[0] == nibble] for nibble in range(16)]
    return [*(_reference(_node(child)) if child else b"" for child in children), b""]


def _reference(node: list[Any]) -> Any:
    encoded = rlp.encode(node)
    return node if len(encoded) < 32 else keccak256(encoded)


def _hex_prefix(nibbles: list[int], *, leaf: bool) -> bytes:
    flag = 2 * leaf + len(nibbles) % 2
    padded = [flag, *nibbles] if len(nibbles) % 2 else [flag, 0, *nibbles]
    return bytes(16 * high + low for high, low in zip(padded[::2], padded[1::2], strict=True))


def _header(block: Row) -> list[Any]:
    first = ["parent_hash", "ommers_hash", "miner", "state_root", "transactions_root", "receipt_root", "logs_bloom",
             "difficulty", "block_num", "gas_limit", "gas_used"]  # fmt: skip
    later = [block[name] for name in LATER_HEADER_FIELDS]
    present = [value for value in later if value is not None]
    assert later[: len(present)] == present, "a later field without an earlier one"
    seconds, rest = divmod(block["timestamp"], 10**9)
    assert rest == 0
    seal = [block["extra_data"], block["mix_hash"], block["nonce"].to_bytes(8, "big")]
    return [*(block[name] for name in first), seconds, *seal, *present]


def _state_sync(tx: Row) -> bool:
    """Polygon's list of state syncs, from nobody to nobody and unsigned: in the block's answer, but in no trie."""
    return bool(tx["from"] == ZERO_ADDRESS == tx["to"] and tx["r"] == bytes(32) == tx["s"] and tx["type"] in (0, 0x7F))


def _envelope(tx: Row) -> bytes:
    parity, kind = int(tx["v_parity"]), tx["type"]
    signature = [int.from_bytes(tx["r"], "big"), int.from_bytes(tx["s"], "big")]
    call = [tx["gas_limit"], tx["to"] or b"", int(tx["value"]), tx["input"]]
    if kind == 0:
        v = 27 + parity if tx["chain_id"] is None else 35 + 2 * tx["chain_id"] + parity
        return bytes(rlp.encode([tx["nonce"], tx["gas_price"], *call, v, *signature]))
    fees = [tx["gas_price"]] if kind == 1 else [tx["max_priority_fee_per_gas"], tx["max_fee_per_gas"]]
    extras: list[Any] = [[[entry["address"], entry["storage_keys"]] for entry in tx["access_list"]]]
    if kind == 3:
        extras += [tx["max_fee_per_blob_gas"], tx["blob_versioned_hashes"]]
    if kind == 4:
        extras += [[_authorization(entry) for entry in tx["authorization_list"]]]
    fields = [tx["chain_id"], tx["nonce"], *fees, *call, *extras, parity, *signature]
    return bytes([kind]) + bytes(rlp.encode(fields))


def _authorization(entry: Row) -> list[Any]:
    signature = [int.from_bytes(entry["r"], "big"), int.from_bytes(entry["s"], "big")]
    return [entry["chain_id"], entry["address"], entry["nonce"], int(entry["y_parity"]), *signature]


def _receipt(tx: Row, logs: list[Row]) -> bytes:
    outcome = int(tx["status"]) if tx["state_root"] is None else tx["state_root"]
    entries = [[log["address"], _topics(log), log["data"]] for log in logs]
    encoded = bytes(rlp.encode([outcome, tx["gas_used"], _bloom(logs), entries]))
    return encoded if tx["type"] == 0 else bytes([tx["type"]]) + encoded


def _topics(log: Row) -> list[bytes]:
    return [log[f"topic{i}"] for i in range(4) if log[f"topic{i}"] is not None]


def _bloom(logs: list[Row]) -> bytes:
    bits = 0
    for log in logs:
        for entry in [log["address"], *_topics(log)]:
            digest = keccak256(entry)
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits.to_bytes(256, "big")
