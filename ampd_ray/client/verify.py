"""Verify a dataset from its files: do the rows hash to what their headers promise (``ampd verify``)?"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ampd_ray.chain.expression import RangeExpr
from ampd_ray.chain.ranges import Span, intersect, merge, split
from ampd_ray.chain.segments import canonical_flags
from ampd_ray.client.tables import TableFile
from ampd_ray.client.verify_report import Report, report
from ampd_ray.client.verify_span import SpanResult, SpanTask, verify_span
from ampd_ray.datasets.evm.schemas import TABLES
from ampd_ray.datasets.evm.verify import Level
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.datasets.networks import chain_of
from ampd_ray.errors import BeyondHead, NothingThere
from ampd_ray.metadb import audit, datasets, networks, revisions
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.revisions import Revision
from ampd_ray.metadb.segment_index import segment_of

if TYPE_CHECKING:
    from ampd_ray.client.session import Client

_TASK_BYTES: Final = 16 << 20  # of files; a few times that in memory, for each process
_TASK_BLOCKS: Final = 50_000


CarryOut = Callable[[Sequence[SpanTask]], Iterator[SpanResult]]


@dataclass(frozen=True)
class Progress:
    """How many blocks are done, of how many; how many of them failed."""

    blocks: int
    total: int
    failed: int


def here(tasks: Sequence[SpanTask]) -> Iterator[SpanResult]:
    """The results of this process, one after the other."""
    return map(verify_span, tasks)


def verify(
    client: Client,
    dataset: DatasetRef,
    *,
    blocks: RangeExpr | None = None,
    level: Level = Level.FULL,
    carry_out: CarryOut = here,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Verify the rows of ``dataset``, or of some blocks of it.

    Raises ``NotFound``; ``BeyondHead`` for blocks above the last one that is there, ``NothingThere`` if none is.

    ``carry_out`` calls ``verify_span`` for each task, wherever that may be.
    """
    started = time.monotonic()
    manifest = client.manifest(dataset)

    async def ask() -> tuple[int | None, dict[str, list[TableFile]]]:
        async with client.db.connection() as conn:
            told = chain_of(manifest.network, client.settings.ampd_ray.networks)
            chain_id = await networks.recorded(conn, manifest.network) if told is None else told
            pinned = await datasets.resolve(conn, dataset)
            found = await revisions.active_revisions(conn, dataset.namespace, dataset.name, pinned)
            return chain_id, {table: await _live_files(conn, revision) for table, revision in found.items()}

    chain_id, files = client.run(ask())
    wanted = _wanted(dataset, files, blocks)
    tasks = [] if wanted is None else plan(client.settings.data_dir, files, wanted, level, chain_id)
    results = list(_results(tasks, carry_out, on_progress))
    return report(dataset.dataset, manifest.hash, level, wanted, results, time.monotonic() - started)


async def _live_files(conn: Connection, revision: Revision) -> list[TableFile]:
    """The canonical files of a revision in the order of their blocks."""
    rows: list[audit.FileRow] = []
    while page := await audit.file_rows(conn, revision.location_id, rows[-1].file_id if rows else 0):
        rows += page
    segments = {row.file_id: segment_of(row.file_id, row.file_name, row.metadata) for row in rows}
    live = canonical_flags(segments.values())
    files = [
        TableFile(f"{revision.path}/{row.file_name}", segments[row.file_id].range.span, row.size)
        for row in rows
        if live[row.file_id]
    ]
    return sorted(files, key=lambda file: file.span)


def _wanted(dataset: DatasetRef, files: Mapping[str, Sequence[TableFile]], blocks: RangeExpr | None) -> Span | None:
    """The blocks that are asked for; without a range, from the first to the last that any table has."""
    spans = merge(file.span for each in files.values() for file in each)
    if blocks is None:
        return Span(spans[0].start, spans[-1].end) if spans else None
    if not spans:
        raise NothingThere(f"nothing of {dataset.dataset} has been extracted yet, so there is no {blocks} to verify")
    last = spans[-1].end
    try:
        wanted = blocks.resolve(last)
    except BeyondHead:
        raise BeyondHead(f"block range {blocks.text!r}: the last block that {dataset.dataset} has is {last}") from None
    if not any(intersect([wanted], span) for span in spans):
        raise NothingThere(
            f"{dataset.dataset} has none of the blocks {wanted.start:,} to {wanted.end:,}; it has some from "
            f"{spans[0].start:,} to {last:,}"
        )
    return wanted


def plan(
    data_dir: str, files: Mapping[str, Sequence[TableFile]], wanted: Span, level: Level, chain_id: int | None = None
) -> list[SpanTask]:
    """Tasks of moderate size over the blocks of ``wanted`` that all tables have."""
    common = [wanted]
    for table in TABLES:
        covered = merge(file.span for file in files.get(table, ()))
        common = [piece for span in covered for piece in intersect(common, span)]
    everything = [file for each in files.values() for file in each]
    nbytes, nblocks = sum(file.size or 0 for file in everything), sum(len(span) for span in common)
    size = max(1, min(_TASK_BLOCKS, _TASK_BYTES * nblocks // max(1, nbytes)))
    return [
        SpanTask(
            piece,
            level,
            data_dir,
            {
                table: [f for f in files[table] if f.span.start <= piece.end and f.span.end >= piece.start]
                for table in TABLES
            },
            chain_id,
        )
        for span in common
        for piece in split(span, size)
    ]


def _results(
    tasks: Sequence[SpanTask], carry_out: CarryOut, on_progress: Callable[[Progress], None]
) -> Iterator[SpanResult]:
    """The results as they come."""
    done, failed, total = 0, 0, sum(len(task.span) for task in tasks)
    for result in carry_out(tasks):
        done += len(result.span)
        failed += sum(verdict.failed for verdict in result.verdicts)
        on_progress(Progress(done, total, failed))
        yield result


def in_processes(tasks: Sequence[SpanTask], processes: int) -> Iterator[SpanResult]:
    """The results of a pool of processes on this machine, as they come; with one process, of this one."""
    if processes <= 1:
        yield from here(tasks)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(verify_span, task) for task in tasks]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
