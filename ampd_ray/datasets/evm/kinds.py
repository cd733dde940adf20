"""What a transaction's type changes: its signature's parity, its chain id, what may be missing (data.md 1.4)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ampd_ray.datasets.evm.columns import (
    MAX_U256,
    ColumnError,
    Problem,
    distinct,
    malformed,
    missing,
    one_binary,
    one_number,
)
from ampd_ray.datasets.evm.rpc import KNOWN_TYPES, Quantity, RpcTransaction

LEGACY, ACCESS_LIST, DYNAMIC_FEE, BLOB, SET_CODE = KNOWN_TYPES
"""The types that the tables know in full; all others are read leniently."""

_MAX_I32 = (1 << 31) - 1
_MAX_V = 2 * ((1 << 64) - 1) + 36  # the largest chain id that fits, protected (EIP-155)


def types_of(rows: Sequence[RpcTransaction]) -> list[int]:
    """The type of each transaction; nodes older than EIP-2718 send none, which means 0. Raises ColumnError.

    Without a type, a field that only typed transactions have is a contradiction: guessing could make a wrong row.
    """
    spelled = [row.type for row in rows]
    types = distinct(spelled, lambda value, at: 0 if value is None else _type(value, at))
    if None in spelled:
        for index, row in enumerate(rows):
            if row.type is None and _looks_typed(row):
                raise missing(index)
    return types


def _looks_typed(row: RpcTransaction) -> bool:
    lists = (row.access_list, row.blob_versioned_hashes, row.authorization_list)
    fees = (row.max_fee_per_gas, row.max_priority_fee_per_gas, row.max_fee_per_blob_gas)
    return any(isinstance(value, list) for value in lists) or any(fee is not None for fee in fees)


def _type(value: Quantity, index: int) -> int:
    return one_number(value, index, _MAX_I32, "Int32")


def lenient(row: RpcTransaction) -> RpcTransaction:
    """A transaction of unknown type as the table shows it: what is absent or malformed has its default."""
    return replace(
        row,
        to=row.to if _is_binary(row.to, 20) else None,
        value=_readable(row.value, "0x0"),
        input=row.input if _is_binary(row.input) else "0x",
        nonce=_readable(row.nonce, "0x0"),
        gas=_readable(row.gas, "0x0"),
        max_fee_per_gas=_readable(row.max_fee_per_gas, "0x0"),
        max_priority_fee_per_gas=_readable(row.max_priority_fee_per_gas, None),
        chain_id=_readable(row.chain_id, None),
        r="0x0",
        s="0x0",
        v="0x0",
        y_parity=None,
    )


def _readable(value: Quantity, default: str | None) -> Quantity:
    """The value if it is a quantity, of whatever size: one that does not fit its column still is an error."""
    try:
        one_number(value)
    except ColumnError as bad:
        return value if bad.problem is Problem.OVERFLOW else default
    return value


def _is_binary(value: str | None, width: int | None = None) -> bool:
    try:
        one_binary(value, width=width)
    except ColumnError:
        return False
    return True


def parities(rows: Sequence[RpcTransaction]) -> list[bool]:
    """The parity of each signature, from ``yParity`` or ``v``. Raises ColumnError where they disagree."""
    return distinct(list(zip([row.y_parity for row in rows], [row.v for row in rows], strict=True)), _parity)


def _parity(spelled: tuple[Quantity, Quantity], index: int) -> bool:
    y_parity, v = spelled
    if y_parity is None:
        return _parity_of(v, index)
    parity = one_flag(y_parity, index, "a yParity")
    if v is not None and _parity_of(v, index) != parity:
        raise malformed(index, f"yParity {y_parity} with v {v}", "one parity")
    return parity


def one_flag(value: Quantity, index: int, wanted: str) -> bool:
    """0 or 1. Raises ColumnError: another number is no overflow, as no valid block has it."""
    number = one_number(value, index, MAX_U256, "256 bits")
    if number > 1:
        raise malformed(index, value, wanted)
    return bool(number)


def _parity_of(v: Quantity, index: int) -> bool:
    """The parity in ``v``: 0 or 1, 27 or 28 (before EIP-155), or 35 + 2 * chain id + parity. Raises ColumnError."""
    number = one_number(v, index, _MAX_V, "35 + 2 * UInt64 + parity")
    if number in (0, 1):
        return bool(number)
    if number in (27, 28):
        return number == 28
    if number < 35:
        raise malformed(index, v, "a signature's v")
    return bool((number - 35) % 2)


def chain_ids(rows: Sequence[RpcTransaction], types: Sequence[int]) -> list[int | None]:
    """The chain id of each transaction, None where it is unprotected. Raises ColumnError."""
    vs = [row.v if kind == LEGACY else None for kind, row in zip(types, rows, strict=True)]
    return distinct(list(zip(types, vs, [row.chain_id for row in rows], strict=True)), _chain_id)


def _chain_id(spelled: tuple[int, Quantity, Quantity], index: int) -> int | None:
    kind, v, chain_id = spelled
    if kind == LEGACY and v is not None:
        number = one_number(v, index, _MAX_V, "35 + 2 * UInt64 + parity")
        if number in (27, 28):
            return None
        if number >= 35:
            return (number - 35) // 2
    if chain_id is None and not ACCESS_LIST <= kind <= SET_CODE:
        return None
    return one_number(chain_id, index)
