"""The bloom of logs as nodes spell them: a block's thousands of addresses and topics at once.

The same bloom as :func:`~ampd_ray.datasets.evm.hashing.bloom_of` makes of raw bytes. It is what integrity costs, so
that only the hash remains: bits are gathered in numpy, and what repeats from block to block is hashed once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from ampd_ray.datasets.evm.hashing import keccak256

_BITS = 2048
NO_BLOOM = "0x" + 512 * "0"
"""``logsBloom`` of a block without logs."""


def spelled_bloom(entries: Iterable[str]) -> bytes:
    """The 256-byte bloom of addresses and topics in 0x hex. Raises ValueError for what is not hex data."""
    pairs = np.frombuffer(b"".join(map(_pairs, entries)), ">u2")
    bits = np.zeros(_BITS, np.uint8)
    bits[_BITS - 1 - (pairs & (_BITS - 1))] = 1
    return np.packbits(bits).tobytes()


@lru_cache(maxsize=1 << 16)  # addresses and event signatures repeat in almost every block
def _pairs(entry: str) -> bytes:
    """The three byte pairs of an entry's hash that choose its bits."""
    return keccak256(bytes.fromhex(entry[2:]))[:6]
