"""Verify one span of blocks from Parquet files alone: what a process of the pool of ``ampd verify`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.evm.verify import Check, Level, Result, Verdict, verify_blocks


@dataclass(frozen=True)
class SpanTask:
    """The blocks to verify, and by table the files that hold them, in the order of their blocks."""

    span: Span
    level: Level
    files: Mapping[str, Sequence[str]]
    chain_id: int | None = None


@dataclass(frozen=True)
class SpanResult:
    """How many blocks passed, and the verdicts on the others; ``problem``: why the rows could not be verified at all.

    ``parent`` is the parent hash of the first block, ``hash`` that of the last; None without blocks.
    """

    span: Span
    passed: int = 0
    verdicts: tuple[Verdict, ...] = ()
    problem: str | None = None
    parent: bytes | None = None
    hash: bytes | None = None


def verify_span(task: SpanTask) -> SpanResult:
    """Verify ``task.span``; what is wrong with files or rows is in the result."""
    try:
        tables = {table: _read(table, files, task.span) for table, files in task.files.items()}
        verdicts = verify_blocks(tables, level=task.level, chain_id=task.chain_id)
    except (OSError, ValueError, pa.ArrowException) as error:
        return SpanResult(task.span, problem=f"{type(error).__name__}: {error}")
    links = list(
        zip(*(tables["blocks"][name].to_pylist() for name in ("block_num", "parent_hash", "hash")), strict=True)
    )
    if not links:
        return SpanResult(task.span, problem="the files have no rows of these blocks")
    others = [verdict for verdict in verdicts if verdict.result is not Result.PASS]
    for (_, _, before), (number, parent, _) in pairwise(links):
        others += [] if parent == before else [orphan(number, task.level, parent, before)]
    blamed = {verdict.block for verdict in others}
    passed = sum(number not in blamed for number, _, _ in links)
    return SpanResult(task.span, passed, tuple(others), None, links[0][1], links[-1][2])


def orphan(number: int, level: Level, parent: bytes, before: bytes) -> Verdict:
    """The verdict on a block whose parent is not the block before it."""
    return Verdict(number, Result.FAIL, level, Check.PARENT, f"0x{before.hex()}", f"0x{parent.hex()}")


def _read(table: str, files: Sequence[str], span: Span) -> pa.Table:
    """The rows of a span; the statistics of row groups spare the reading of others."""
    number = pc.field("block_num")
    within = (number >= pa.scalar(span.start, pa.uint64())) & (number <= pa.scalar(span.end, pa.uint64()))
    return ds.dataset(list(files), schema=SCHEMAS[table], format="parquet").to_table(filter=within, use_threads=False)
