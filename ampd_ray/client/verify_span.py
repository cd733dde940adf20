"""Verify one span of blocks from Parquet files alone: what a process of the pool of ``ampd verify`` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ampd_ray.chain.ranges import Span
from ampd_ray.client.tables import TableFile, place_of
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.evm.verify import Check, Level, Result, Verdict, verify_blocks
from ampd_ray.errors import StoreError
from ampd_ray.store.files import Store, open_store

_NAMED: Final = 20  # stretches of lost blocks in one span; those beyond are told as one


@dataclass(frozen=True)
class Unverified:
    """Blocks that could not be verified in full, and why."""

    span: Span
    reason: str


@dataclass(frozen=True)
class SpanTask:
    """The blocks to verify, and by table the files in ``data_dir`` that hold them, in the order of their blocks."""

    span: Span
    level: Level
    data_dir: str
    files: Mapping[str, Sequence[TableFile]]
    chain_id: int | None = None


@dataclass(frozen=True)
class SpanResult:
    """How many blocks passed, and the verdicts on the others; ``problems``: what could not be verified at all.

    ``parent`` is the parent hash of the span's first block, ``hash`` that of its last; None where that is not there.
    """

    span: Span
    passed: int = 0
    verdicts: tuple[Verdict, ...] = ()
    problems: tuple[Unverified, ...] = ()
    parent: bytes | None = None
    hash: bytes | None = None


def verify_span(task: SpanTask) -> SpanResult:
    """Verify ``task.span``; what is wrong with files or rows is in the result."""
    store = open_store(task.data_dir)
    try:
        tables = {table: _read(store, table, files, task.span) for table, files in task.files.items()}
        verdicts = verify_blocks(tables, level=task.level, chain_id=task.chain_id)
    except (OSError, ValueError, pa.ArrowException, StoreError) as error:
        return SpanResult(task.span, problems=(Unverified(task.span, f"{type(error).__name__}: {error}"),))
    links = list(
        zip(*(tables["blocks"][name].to_pylist() for name in ("block_num", "parent_hash", "hash")), strict=True)
    )
    parent_of = {number: parent for number, parent, _ in links}
    hash_of = {number: hash_ for number, _, hash_ in links}
    others = [verdict for verdict in verdicts if verdict.result is not Result.PASS]
    for number, parent in parent_of.items():
        before = hash_of.get(number - 1, parent)  # a block whose parent is lost is not to blame for it
        others += [] if parent == before else [orphan(number, task.level, parent, before)]
    blamed = {verdict.block for verdict in others}
    passed = sum(number not in blamed for number in hash_of)
    lost = _lost(task.span, hash_of)
    return SpanResult(
        task.span, passed, tuple(others), lost, parent_of.get(task.span.start), hash_of.get(task.span.end)
    )


def orphan(number: int, level: Level, parent: bytes, before: bytes) -> Verdict:
    """The verdict on a block whose parent is not the block before it."""
    return Verdict(number, Result.FAIL, level, Check.PARENT, f"0x{before.hex()}", f"0x{parent.hex()}")


def _lost(span: Span, numbers: Iterable[int]) -> tuple[Unverified, ...]:
    """The blocks of ``span`` that are not among ``numbers``, which ascend."""
    marks = [span.start - 1, *numbers, span.end + 1]
    lost = [Span(before + 1, after - 1) for before, after in pairwise(marks) if after > before + 1]
    told = [Unverified(stretch, "the files have no rows of these blocks") for stretch in lost[:_NAMED]]
    if rest := lost[_NAMED:]:
        reason = f"the files have no rows of {sum(map(len, rest)):,} of these blocks"
        told.append(Unverified(Span(rest[0].start, rest[-1].end), reason))
    return tuple(told)


def _read(store: Store, table: str, files: Sequence[TableFile], span: Span) -> pa.Table:
    """The rows of a span; the statistics of row groups spare the reading of others."""
    number = pc.field("block_num")
    within = (number >= pa.scalar(span.start, pa.uint64())) & (number <= pa.scalar(span.end, pa.uint64()))
    return pa.concat_tables([_rows(store, file, SCHEMAS[table], within) for file in files])


def _rows(store: Store, file: TableFile, schema: pa.Schema, within: pc.Expression) -> pa.Table:
    """Some rows of a file. Raises ValueError if its columns are not those of ``schema``: Arrow would fill in nulls."""
    stored = ds.ParquetFileFormat().make_fragment(file.path, store.arrow(), file_size=file.size)
    wanted, found = (dict(zip(each.names, each.types, strict=True)) for each in (schema, stored.physical_schema))
    for name in wanted | found:
        if wanted.get(name) != found.get(name):
            where = place_of(store, file.path)
            raise ValueError(f"{where}: column {name} is {found.get(name, 'absent')}, not {wanted.get(name, 'absent')}")
    rows = stored.to_table(schema=schema, filter=within, use_threads=False)
    for field in schema:
        if not field.nullable and rows[field.name].null_count:
            raise ValueError(f"{place_of(store, file.path)}: column {field.name} has nulls")
    return rows
