"""The hash links of consecutive blocks, compact enough to travel with every extract: 80 bytes a block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HASH_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class BlockLinks:
    """Number, hash, parent hash and timestamp of blocks whose numbers strictly increase (else ValueError).

    ``numbers`` and ``timestamps`` (Unix seconds) are uint64 arrays of n values, ``hashes`` and ``parents``
    n * 32 bytes.
    """

    numbers: npt.NDArray[np.uint64]
    hashes: bytes
    parents: bytes
    timestamps: npt.NDArray[np.uint64]

    def __post_init__(self) -> None:
        blocks = len(self.numbers)
        if not len(self.hashes) == len(self.parents) == HASH_BYTES * blocks or len(self.timestamps) != blocks:
            raise ValueError(
                f"{blocks} blocks with {len(self.hashes)} bytes of hashes, {len(self.parents)} bytes of parents "
                f"and {len(self.timestamps)} timestamps"
            )
        falls = np.flatnonzero(self.numbers[1:] <= self.numbers[:-1])
        if falls.size:
            at = int(falls[0])
            raise ValueError(f"block {self.numbers[at + 1]} comes after block {self.numbers[at]}")

    @classmethod
    def from_blocks(cls, blocks: Iterable[tuple[int, bytes, bytes, int]]) -> BlockLinks:
        """Build from ``(number, hash, parent hash, timestamp)`` in ascending order."""
        numbers, hashes, parents, timestamps = zip(*blocks, strict=True) if (blocks := list(blocks)) else ((),) * 4
        return cls(np.array(numbers, np.uint64), b"".join(hashes), b"".join(parents), np.array(timestamps, np.uint64))

    @classmethod
    def concat(cls, parts: Iterable[BlockLinks]) -> BlockLinks:
        """Join parts that are in ascending order."""
        if not (parts := list(parts)):
            return cls.from_blocks(())
        return cls(
            np.concatenate([part.numbers for part in parts]),
            b"".join(part.hashes for part in parts),
            b"".join(part.parents for part in parts),
            np.concatenate([part.timestamps for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def first(self) -> int:
        """The lowest block number (IndexError without blocks)."""
        return int(self.numbers[0])

    @property
    def last(self) -> int:
        """The highest block number (IndexError without blocks)."""
        return int(self.numbers[-1])

    def hash(self, i: int) -> bytes:
        """The hash of the block at position ``i``, from 0."""
        return self.hashes[HASH_BYTES * i : HASH_BYTES * (i + 1)]

    def parent(self, i: int) -> bytes:
        """The parent hash of the block at position ``i``, from 0."""
        return self.parents[HASH_BYTES * i : HASH_BYTES * (i + 1)]

    def timestamp(self, i: int) -> int:
        """The timestamp, in Unix seconds, of the block at position ``i``."""
        return int(self.timestamps[i])

    def slice(self, i: int, j: int) -> BlockLinks:
        """The blocks at positions ``i`` to ``j``, ``j`` excluded."""
        low, high = HASH_BYTES * i, HASH_BYTES * j
        return BlockLinks(self.numbers[i:j], self.hashes[low:high], self.parents[low:high], self.timestamps[i:j])

    def breaks(self) -> list[int]:
        """The positions, ascending, whose parent hash is not the hash of the block before."""
        if len(self) < 2:
            return []
        before = np.frombuffer(self.hashes, np.uint8).reshape(-1, HASH_BYTES)[:-1]
        parents = np.frombuffer(self.parents, np.uint8).reshape(-1, HASH_BYTES)[1:]
        return [int(i) + 1 for i in np.flatnonzero((before != parents).any(axis=1))]
