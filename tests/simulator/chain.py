"""A chain of which only the hashes exist, with two branches; whoever asks gets the one of the moment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from ampd_ray.chain.links import BlockLinks
from ampd_ray.chain.ranges import Span
from ampd_ray.errors import ActorLost, BlockUnavailable
from ampd_ray.materialize.heads import Tag
from ampd_ray.materialize.types import Extract, ExtractSummary, RangeTask
from tests.simulator.faults import Faults
from tests.simulator.kernel import Kernel

NETWORK = "simulated"


@dataclass
class Chain:
    """Blocks 0 to ``end``; from ``fork`` on there is another branch, which is the right one once ``reorganised``."""

    end: int
    fork: int
    reorganised: bool = False

    def block(self, number: int) -> tuple[int, bytes, bytes, int]:
        """Number, hash, parent hash and timestamp of a block of now."""
        return number, self._hash(number), self._hash(number - 1), 1_600_000_000 + number

    def _hash(self, number: int) -> bytes:
        return _hash(number, self.reorganised and number >= self.fork)


@cache
def _hash(number: int, other: bool) -> bytes:
    return hashlib.sha256(f"{number} {other}".encode()).digest() if number >= 0 else bytes(32)


@dataclass(frozen=True)
class ChainHead:
    number: int
    hash: bytes


class ChainSource:
    """The port ``HeadSource``."""

    chain: int | None = 1337

    def __init__(self, chain: Chain, kernel: Kernel):
        self._chain = chain
        self._kernel = kernel

    async def start(self) -> None:
        return None

    async def head(self, tag: Tag) -> ChainHead:
        await self._kernel.gate("head")
        if tag == "finalized":
            raise BlockUnavailable("nothing is final here")
        number, hash_, *_ = self._chain.block(self._chain.end)
        return ChainHead(number, hash_)

    async def close(self) -> None:
        return None


class ChainExtractors:
    """The port ``Extractors``."""

    def __init__(self, chain: Chain, kernel: Kernel, faults: Faults, tasks: int):
        self._chain = chain
        self._kernel = kernel
        self._faults = faults
        self._tasks = tasks

    def slots(self, wanted: int) -> int:
        return self._tasks

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Extract]:
        await self._kernel.gate("extract")
        if self._faults.extraction_fails():
            raise ActorLost("the extractor died")
        extract = self._extract(task.span, task.tables)
        rows = {table: rows.num_rows for table, rows in extract.tables.items()}
        return ExtractSummary(task.span, rows, 1000, 1, 0, 1000, 0.0, 0.0), extract

    def _extract(self, span: Span, tables: tuple[str, ...]) -> Extract:
        blocks = [self._chain.block(number) for number in range(span.start, span.end + 1)]
        rows = pa.table({"_block_num": [block[0] for block in blocks], "hash": [block[1] for block in blocks]})
        return Extract(span, BlockLinks.from_blocks(blocks), dict.fromkeys(tables, rows))
