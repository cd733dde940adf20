"""Rows back into receipts, as the receipts root commits to them (data.md 9.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ampd_ray.datasets.evm.consensus import Encoded
from ampd_ray.datasets.evm.hashing import bloom_places, rlp_bytes, rlp_list
from ampd_ray.datasets.evm.rlp_columns import Bools, Cells, numbers, prefixed, rows_of, small_numbers, strings, where
from ampd_ray.datasets.evm.rows import Batch, Rows

_TOPICS = ("topic0", "topic1", "topic2", "topic3")
_TOPICS_PREFIXES = np.array([[0xC0, 0], [0xE1, 0], [0xF8, 66], [0xF8, 99], [0xF8, 132]], np.uint8)
"""What an encoded list of so many topics begins with, one byte or two."""

_BLOOM = b"\xb9\x01\x00"  # before the 256 bytes
_SILENT = _BLOOM + bytes(256) + rlp_list(b"")  # bloom and list of a receipt without logs


def stored_outcomes(transactions: Rows) -> Cells:
    """What a receipt begins with: the state root where there is one (before Byzantium), else the status."""
    rooted = transactions.valid("state_root")
    root = where(rooted, strings(transactions.matrix("state_root")))
    status = where(~rooted, small_numbers(transactions.integers("status").astype(np.uint8)))
    return Cells(np.concatenate([root.data, status.data], axis=1), np.concatenate([root.used, status.used], axis=1))


def sent_outcomes(transactions: Rows, roots: Sequence[bytes | None]) -> Cells:
    """The same with the state roots that the node sent, where it sent a status beside them and they are not stored."""
    table, sent = transactions.table, pa.array(roots, pa.binary(32))
    stored = transactions.array("state_root")
    merged = pc.if_else(stored.is_valid(), stored, sent)
    return stored_outcomes(Rows(table.set_column(table.schema.get_field_index("state_root"), "state_root", merged)))


def receipts(batch: Batch, outcomes: Cells, extras: Mapping[int, bytes]) -> Encoded:
    """The receipt of each transaction; ``extras`` are encoded fields that some end with, by row."""
    fronts = rows_of(outcomes, numbers(batch.transactions.big_endian("gas_used")))
    kinds = batch.transactions.integers("type").tolist()
    ends = _ends(batch)
    encoded = Encoded([])
    for row, (kind, front, end) in enumerate(zip(kinds, fronts, ends, strict=True)):
        mark = bytes([kind]) if 0 < kind < 0x80 else b""
        encoded.values.append(mark + rlp_list(front + end + extras.get(row, b"")))
    untold = batch.transactions.valid("state_root") & ~batch.transactions.integers("status")
    encoded.blame(untold, "status is false beside a state root")
    return encoded


def _ends(batch: Batch) -> list[bytes]:
    """Bloom and logs of each receipt."""
    owners, logs = batch.tx_of_log, _log_bytes(batch.logs)
    blooms = _blooms(batch)
    if (owners[1:] < owners[:-1]).any():  # a fault, and its block's alone
        order = np.argsort(owners, kind="stable")
        logs, owners = [logs[row] for row in order.tolist()], owners[order]
    starts = np.searchsorted(owners, np.arange(len(batch.transactions) + 1)).tolist()
    ends: list[bytes] = []
    for start, end in pairwise(starts):
        ends.append(next(blooms) + rlp_list(b"".join(logs[start:end])) if start < end else _SILENT)
    return ends


def _blooms(batch: Batch) -> Iterator[bytes]:
    """The encoded bloom of each receipt that has logs."""
    logs, (talkers, receipt) = batch.logs, np.unique(batch.tx_of_log, return_inverse=True)
    bits = np.zeros(2048 * len(talkers), np.bool_)
    for name in ("address", *_TOPICS):
        coded = logs.array(name).dictionary_encode()
        if len(coded.dictionary):
            places = np.array([bloom_places(entry) for entry in coded.dictionary.to_pylist()], np.int64)
            there = logs.valid(name)
            entries = coded.indices.fill_null(0).to_numpy()[there]
            bits[2048 * receipt[there][:, None] + 2047 - places[entries]] = True
    packed = np.packbits(bits).reshape(-1, 256)
    nobodys = int(np.count_nonzero(talkers < 0))
    return iter(rows_of(prefixed(_BLOOM, packed[nobodys:])))


def _log_bytes(logs: Rows) -> list[bytes]:
    valid = [logs.valid(name) for name in _TOPICS]
    counts = np.sum(valid, axis=0)
    prefix = Cells(_TOPICS_PREFIXES[counts], np.stack([np.ones(len(logs), np.bool_), counts > 1], axis=1))
    topics = [where(there, strings(logs.matrix(name))) for name, there in zip(_TOPICS, valid, strict=True)]
    fronts = rows_of(strings(logs.matrix("address")), prefix, *topics)
    data = logs.array("data").to_pylist()
    return [rlp_list(front + rlp_bytes(rest)) for front, rest in zip(fronts, data, strict=True)]


def log_faults(batch: Batch) -> Encoded:
    """By row of ``logs``: what stands where no node would have put it."""
    logs, owners = batch.logs, batch.tx_of_log
    judged = Encoded([])
    judged.blame(owners < 0, "its transaction is not there")
    valid = [logs.valid(name) for name in _TOPICS]
    for earlier, later in pairwise(valid):
        judged.blame(later & ~earlier, "a topic is missing before another")
    judged.blame(_falls(batch, owners, 0), "it stands after a log of a later transaction")
    judged.blame(_falls(batch, logs.integers("log_index").astype(np.int64), 1), "log_index does not ascend")
    return judged


def _falls(batch: Batch, values: npt.NDArray[np.int64], step: int) -> Bools:
    """Where a log's value is not at least ``step`` above that of the log before it in the block."""
    falls = np.zeros(len(values), np.bool_)
    same_block = batch.block_of_log[1:] == batch.block_of_log[:-1]
    falls[1:] = same_block & (values[1:] < values[:-1] + step)
    return falls
