"""Rows back into transaction envelopes: what a transaction is hashed as, and what its sender signed (data.md 9.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ampd_ray.datasets.evm.columns import MAX_U256
from ampd_ray.datasets.evm.consensus import Encoded
from ampd_ray.datasets.evm.hashing import RlpItem, rlp_bytes, rlp_encode, rlp_list
from ampd_ray.datasets.evm.kinds import ACCESS_LIST, BLOB, DYNAMIC_FEE, LEGACY, SET_CODE
from ampd_ray.datasets.evm.rlp_columns import Bools, Bytes, numbers, rows_of, small_numbers, strings, where, words
from ampd_ray.datasets.evm.rows import Rows

_TYPED = range(ACCESS_LIST, SET_CODE + 1)
_REQUIRED = {
    "gas_price": (LEGACY, ACCESS_LIST),
    "max_fee_per_gas": range(SET_CODE + 1),
    "max_priority_fee_per_gas": (DYNAMIC_FEE, BLOB, SET_CODE),
    "max_fee_per_blob_gas": (BLOB,),
    "chain_id": _TYPED,
    "to": (BLOB, SET_CODE),
    "access_list": _TYPED,
    "blob_versioned_hashes": (BLOB,),
    "authorization_list": (SET_CODE,),
}
"""By column the types that have it; all others have null, but for these, which any type, or any unknown, may have:"""

_ANY_TYPE = {"to", "chain_id"}
_LENIENT = {"max_fee_per_gas", "max_priority_fee_per_gas"}

_MARKS = {kind: bytes([kind]) for kind in _TYPED}
_EMPTY_LIST = rlp_list(b"")
_UNSIGNED = rlp_bytes(b"") * 2


@dataclass
class Envelopes(Encoded):
    """What transactions of types 0 to 4 are hashed as; others, by ``kinds``, have bytes that mean nothing.

    ``bodies`` are the encoded fields that are signed.
    """

    kinds: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    chain_ids: list[int | None] = field(default_factory=list)

    def signed(self, row: int) -> bytes:
        """What the sender has signed the hash of (EIP-155, EIP-2718)."""
        kind, body, chain_id = self.kinds[row], self.bodies[row], self.chain_ids[row]
        if kind == LEGACY and chain_id is not None:
            return rlp_list(body + rlp_encode(chain_id) + _UNSIGNED)
        return _MARKS.get(kind, b"") + rlp_list(body)


def envelopes(transactions: Rows, chain_ids: Mapping[int, list[int]]) -> Envelopes:
    """The envelopes of types 0 to 4. ``chain_ids`` are those of authorizations, where they are known better, by row."""
    types = transactions.integers("type")
    legacy, priced, typed = types == LEGACY, types < DYNAMIC_FEE, types != LEGACY
    values, readable = _values(transactions)
    heads = rows_of(
        where(typed, numbers(transactions.big_endian("chain_id"))),
        numbers(transactions.big_endian("nonce")),
        where(priced, numbers(transactions.decimals("gas_price"))),
        where(~priced, numbers(transactions.decimals("max_priority_fee_per_gas"))),
        where(~priced, numbers(transactions.decimals("max_fee_per_gas"))),
        numbers(transactions.big_endian("gas_limit")),
        strings(transactions.matrix("to"), transactions.valid("to")),
        numbers(values),
    )
    signatures = rows_of(
        where(legacy, numbers(_v(transactions))),
        where(typed, small_numbers(transactions.integers("v_parity").astype(np.uint8))),
        numbers(transactions.matrix("r")),
        numbers(transactions.matrix("s")),
    )
    inputs = transactions.array("input").to_pylist()
    lists = _lists(transactions, types, chain_ids)
    kinds = types.tolist()
    bodies = [head + rlp_bytes(data) + rest for head, data, rest in zip(heads, inputs, lists, strict=True)]
    encoded = Envelopes(
        [
            _MARKS.get(kind, b"") + rlp_list(body + signature)
            for kind, body, signature in zip(kinds, bodies, signatures, strict=True)
        ],
        kinds=kinds,
        bodies=bodies,
        chain_ids=transactions.array("chain_id").to_pylist(),
    )
    _judge(encoded, transactions, types, readable)
    return encoded


def _judge(encoded: Encoded, transactions: Rows, types: npt.NDArray[Any], readable: Bools) -> None:
    """Find rows whose type has not what they say; a type that nobody knows has no more than data.md 1.4.1 grants it."""
    known = (types >= LEGACY) & (types <= SET_CODE)
    for name, kinds in _REQUIRED.items():
        has, valid = np.isin(types, list(kinds)), transactions.valid(name)
        encoded.blame(has & ~valid, f"{name} is null")
        if name not in _ANY_TYPE:
            encoded.blame(
                ~has & valid & (known | (name not in _LENIENT)), f"{name} is set, which its type does not have"
            )
    differ = (transactions.decimals("gas_price") != transactions.decimals("max_fee_per_gas")).any(axis=1)
    encoded.blame((types < DYNAMIC_FEE) & differ, "max_fee_per_gas is not gas_price")
    encoded.blame(~readable, "value is not a number of 256 bits in decimal text")
    signed = transactions.matrix("r").any(axis=1) | transactions.matrix("s").any(axis=1)
    encoded.blame(~known & (signed | transactions.integers("v_parity")), "it is signed, which its type does not have")


def _values(transactions: Rows) -> tuple[Bytes, Bools]:
    """The value that each transaction moves, 32 bytes; and whether the text is a number as it is always written."""
    texts = transactions.array("value")
    try:
        decimals = texts.cast(pa.decimal128(38, 0))
        if decimals.cast(pa.string()).equals(texts):
            low = Rows(pa.table({"value": decimals})).decimals("value")
            return np.pad(low, ((0, 0), (16, 0))), np.ones(len(texts), np.bool_)
    except pa.ArrowInvalid:
        pass
    spelled: list[str] = texts.to_pylist()
    good = [text.isascii() and text.isdigit() and len(text) <= 78 and str(int(text)) == text for text in spelled]
    read = [int(text) if ok else 1 << 256 for text, ok in zip(spelled, good, strict=True)]
    return words([value & MAX_U256 for value in read], 32), np.array([value <= MAX_U256 for value in read], np.bool_)


def _v(transactions: Rows) -> Bytes:
    """The ``v`` of legacy signatures: 27 + parity, or 35 + 2 * chain id + parity (EIP-155)."""
    parities, chain_ids = transactions.integers("v_parity").tolist(), transactions.array("chain_id").to_pylist()
    return words(
        [27 + odd if chain is None else 35 + 2 * chain + odd for odd, chain in zip(parities, chain_ids, strict=True)],
        9,
    )


def _lists(transactions: Rows, types: npt.NDArray[Any], chain_ids: Mapping[int, list[int]]) -> list[bytes]:
    """What stands between input and signature: nothing, or the access list and what the type adds to it."""
    lists = [b"" if kind == LEGACY else _EMPTY_LIST for kind in types.tolist()]
    lengths = transactions.array("access_list").value_lengths().fill_null(0).to_numpy()
    for row, entries in _some(transactions, "access_list", (types != LEGACY) & (lengths > 0)):
        lists[row] = rlp_encode([[entry["address"], entry["storage_keys"]] for entry in entries])
    blobs = types == BLOB
    for row, fee in _some(transactions, "max_fee_per_blob_gas", blobs):
        lists[row] += rlp_encode(int(fee))
    for row, hashes in _some(transactions, "blob_versioned_hashes", blobs):
        lists[row] += rlp_encode(hashes)
    for row, entries in _some(transactions, "authorization_list", types == SET_CODE):
        known = chain_ids.get(row, [])
        if len(known) != len(entries):
            known = [entry["chain_id"] for entry in entries]
        lists[row] += rlp_encode([_authorization(chain, entry) for chain, entry in zip(known, entries, strict=True)])
    return lists


def _some(rows: Rows, name: str, wanted: Bools) -> list[tuple[int, Any]]:
    """The values of the wanted rows that are not null, with their rows."""
    chosen = np.flatnonzero(wanted & rows.valid(name))
    return list(zip(chosen.tolist(), rows.array(name).take(pa.array(chosen)).to_pylist(), strict=True))


def _authorization(chain_id: int, entry: dict[str, Any]) -> RlpItem:
    r, s = int.from_bytes(entry["r"], "big"), int.from_bytes(entry["s"], "big")
    return [chain_id, entry["address"], entry["nonce"], int(entry["y_parity"]), r, s]
