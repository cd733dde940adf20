"""The list columns of ``transactions``: access lists, blob hashes, authorizations (``spec/data.md`` 1.4)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
import pyarrow as pa
from msgspec import UnsetType

from ampd_ray.datasets.evm import columns
from ampd_ray.datasets.evm.kinds import parity_of
from ampd_ray.datasets.evm.rpc import RpcAccess, RpcAuthorization
from ampd_ray.datasets.evm.schemas import ACCESS, AUTHORIZATION, B32, BOOL, U64, list_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_hashes = partial(columns.fixed, width=32)
_addresses = partial(columns.fixed, width=20)
_MAX_U64 = (1 << 64) - 1
_MAX_U256 = (1 << 256) - 1


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
    lists: list[list[T]] = []
    for index, row in enumerate(rows):
        if not isinstance(row, list):
            raise columns.missing(index)
        lists.append(row)
    lengths = [len(row) for row in lists]
    try:
        items = build(list(chain.from_iterable(lists)))
    except columns.ColumnError as bad:
        owner = int(np.repeat(np.arange(len(lengths)), lengths)[bad.index])
        raise columns.ColumnError(owner, bad.problem, bad.reason) from None
    ends = pa.py_buffer(columns.offsets(np.array(lengths, np.int64)))
    return pa.Array.from_buffers(list_of(kind), len(lists), [None, ends], children=[items])


def _accesses(entries: list[RpcAccess]) -> pa.Array:
    children = [_addresses([entry.address for entry in entries]), hash_lists([entry.storage_keys for entry in entries])]
    return pa.Array.from_buffers(ACCESS, len(entries), [None], children=children)


def _authorizations(entries: list[RpcAuthorization]) -> pa.Array:
    children = [
        pa.array([_chain_id(entry, index) for index, entry in enumerate(entries)], U64),
        _addresses([entry.address for entry in entries]),
        pa.array(columns.u64([entry.nonce for entry in entries])),
        pa.array([_parity(entry, index) for index, entry in enumerate(entries)], BOOL),
        columns.word([entry.r for entry in entries]),
        columns.word([entry.s for entry in entries]),
    ]
    return pa.Array.from_buffers(AUTHORIZATION, len(entries), [None], children=children)


def _chain_id(entry: RpcAuthorization, index: int) -> int:
    """The chain id; one above 64 bits becomes 0, as in Amp: the one substitution that loses data."""
    chain_id = columns.one_number(entry.chain_id, index, _MAX_U256, "256 bits")
    if chain_id > _MAX_U64:
        log.warning("authorization of %s: chain id %d stored as 0; its block cannot verify", entry.address, chain_id)
        return 0
    return chain_id


def _parity(entry: RpcAuthorization, index: int) -> bool:
    if entry.y_parity is None:
        return parity_of(entry.v, index)
    return bool(columns.one_number(entry.y_parity, index, 1, "Boolean"))
