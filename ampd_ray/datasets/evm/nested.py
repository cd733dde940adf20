"""The list columns of ``transactions``: access lists, blob hashes, authorizations (``spec/data.md`` 1.4)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar, cast

import numpy as np
import pyarrow as pa
from msgspec import UnsetType

from ampd_ray.datasets.evm import columns
from ampd_ray.datasets.evm.rpc import Quantity, RpcAccess, RpcAuthorization
from ampd_ray.datasets.evm.schemas import ACCESS, AUTHORIZATION, B32, BOOL, U64, list_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_hashes = partial(columns.fixed, width=32)
_addresses = partial(columns.fixed, width=20)
_MAX_U64 = (1 << 64) - 1
_MAX_U8 = (1 << 8) - 1


def hash_lists(rows: Sequence[list[str] | None]) -> pa.Array:
    """Lists of 32-byte hashes. Raises ColumnError."""
    return _lists(rows, B32, _hashes)


def access_lists(rows: Sequence[list[RpcAccess] | UnsetType | None]) -> pa.Array:
    """Lists of addresses with their storage keys; ``null`` is an empty list, absence an error. Raises ColumnError."""
    return _lists([[] if row is None else row for row in rows], ACCESS, _accesses)


def authorization_lists(rows: Sequence[list[RpcAuthorization] | None]) -> pa.Array:
    """Lists of authorizations (EIP-7702). Raises ColumnError."""
    return _lists(rows, AUTHORIZATION, _authorizations)


def _lists(
    rows: Sequence[list[T] | UnsetType | None], kind: pa.DataType, build: Callable[[list[T]], pa.Array]
) -> pa.Array:
    """List of each row, all items built together; a bad item counts as a bad row. Raises ColumnError."""
    absent = next((index for index, row in enumerate(rows) if not isinstance(row, list)), None)
    if absent is not None:
        raise columns.missing(absent)
    lists = cast(Sequence[list[T]], rows)
    lengths = list(map(len, lists))
    try:
        items = build(list(chain.from_iterable(lists)))
    except columns.ColumnError as bad:
        owner = int(np.repeat(np.arange(len(lengths)), lengths)[bad.index])
        raise columns.ColumnError(owner, bad.problem, bad.reason) from None
    ends = pa.py_buffer(columns.offsets(np.array(lengths, np.int64)))
    return pa.Array.from_buffers(list_of(kind), len(lists), [None, ends], children=[items])


def _named(field: str, build: Callable[[list[T]], pa.Array], values: list[T]) -> pa.Array:
    """The column of one field of all entries; its ColumnError says which field it is about."""
    try:
        return build(values)
    except columns.ColumnError as bad:
        raise columns.ColumnError(bad.index, bad.problem, f"{field} {bad.reason}") from None


def _accesses(entries: list[RpcAccess]) -> pa.Array:
    children = [
        _named("address", _addresses, [entry.address for entry in entries]),
        _named("storageKeys", hash_lists, [entry.storage_keys for entry in entries]),
    ]
    return pa.Array.from_buffers(ACCESS, len(entries), [None], children=children)


def _authorizations(entries: list[RpcAuthorization]) -> pa.Array:
    children = [
        _named("chainId", _chain_ids, [entry.chain_id for entry in entries]),
        _named("address", _addresses, [entry.address for entry in entries]),
        _named("nonce", _u64, [entry.nonce for entry in entries]),
        _named("yParity", _parities, entries),
        _named("r", columns.word, [entry.r for entry in entries]),
        _named("s", columns.word, [entry.s for entry in entries]),
    ]
    return pa.Array.from_buffers(AUTHORIZATION, len(entries), [None], children=children)


def _chain_ids(values: list[Quantity]) -> pa.Array:
    """Chain ids; one above 64 bits becomes 0, as in Amp: the one substitution that loses data."""
    chain_ids = [columns.one_number(value, index, columns.MAX_U256, "256 bits") for index, value in enumerate(values)]
    huge = [chain_id for chain_id in chain_ids if chain_id > _MAX_U64]
    if huge:
        first = f"the first is {huge[0]}; stored rows of their blocks cannot verify"
        log.warning("chain ids of %d authorizations do not fit 64 bits and are stored as 0, %s", len(huge), first)
    return pa.array([0 if chain_id > _MAX_U64 else chain_id for chain_id in chain_ids], U64)


def _parities(entries: list[RpcAuthorization]) -> pa.Array:
    return pa.array([_parity(entry, index) for index, entry in enumerate(entries)], BOOL)


def _parity(entry: RpcAuthorization, index: int) -> bool:
    """The parity as signed. EIP-7702 allows 8 bits, of which all but 0 and 1 do not fit the column.

    Unlike a transaction's, ``v`` is only another name here: 27 is a parity of 27, which recovers no signer.
    """
    value = entry.v if entry.y_parity is None else entry.y_parity
    parity = columns.one_number(value, index, columns.MAX_U256, "256 bits")
    if parity > _MAX_U8:
        raise columns.malformed(index, value, "a parity of 8 bits")
    if parity > 1:
        raise columns.overflow(index, value, "Boolean")
    if None not in (entry.v, entry.y_parity) and columns.one_number(entry.v, index, columns.MAX_U256) != parity:
        raise columns.malformed(index, f"yParity {entry.y_parity} with v {entry.v}", "one parity")
    return bool(parity)


def _u64(values: list[Quantity]) -> pa.Array:
    return pa.array(columns.u64(values))
