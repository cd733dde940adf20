"""Rows back into the bytes that a block commits to, column by column: all rows of a batch at once (data.md 9.1).

A row that cannot be encoded, or that says what its type cannot say, does not stop the others: it has a fault, a
sentence, and its bytes mean nothing. Here the headers; transactions and receipts have files of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa

from ampd_ray.datasets.evm.hashing import rlp_bytes, rlp_list
from ampd_ray.datasets.evm.rlp_columns import Bools, Cells, numbers, rows_of, strings, where
from ampd_ray.datasets.evm.rows import Rows

Faults = dict[int, str]

_HASHES = ("parent_hash", "ommers_hash", "miner", "state_root", "transactions_root", "receipt_root")
_LATER = (
    "base_fee_per_gas",
    "withdrawals_root",
    "blob_gas_used",
    "excess_blob_gas",
    "parent_beacon_root",
    "requests_hash",
)


@dataclass
class Encoded:
    """The bytes of each row, and the faults by row."""

    values: list[bytes]
    faults: Faults = field(default_factory=dict)

    def blame(self, rows: Bools, sentence: str) -> None:
        """Give the rows that are True the fault ``sentence``, if they have none yet."""
        for row in np.flatnonzero(rows).tolist():
            self.faults.setdefault(row, sentence)


def header_bytes(headers: Rows) -> Encoded:
    """What each block's hash is the hash of. The later fields end with the last fork that the block knows."""
    hashes = rows_of(*[strings(headers.matrix(name)) for name in _HASHES])
    counts = rows_of(
        numbers(headers.decimals("difficulty")),
        *[numbers(headers.big_endian(name)) for name in ("block_num", "gas_limit", "gas_used")],
        numbers(headers.seconds().astype(">u8").view(np.uint8).reshape(-1, 8)),
    )
    ends = rows_of(
        strings(headers.matrix("mix_hash")),
        strings(headers.big_endian("nonce")),
        *[where(headers.valid(name), _later(headers, name)) for name in _LATER],
    )
    blooms, extras = headers.array("logs_bloom").to_pylist(), headers.array("extra_data").to_pylist()
    encoded = Encoded(
        [
            rlp_list(first + rlp_bytes(bloom) + second + rlp_bytes(extra) + last)
            for first, bloom, second, extra, last in zip(hashes, blooms, counts, extras, ends, strict=True)
        ]
    )
    for earlier, later in pairwise(_LATER):
        encoded.blame(headers.valid(later) & ~headers.valid(earlier), f"{later} is set, {earlier} is not")
    return encoded


def _later(headers: Rows, name: str) -> Cells:
    kind = headers.array(name).type
    if pa.types.is_decimal(kind):
        return numbers(headers.decimals(name))
    return numbers(headers.big_endian(name)) if pa.types.is_integer(kind) else strings(headers.matrix(name))
