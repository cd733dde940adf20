"""What is committed of a block range, by the rows of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ampd_ray.chain.ranges import Span, intersect, merge, subtract
from ampd_ray.client.displays.figures import duration
from ampd_ray.client.displays.summary import summary_text
from ampd_ray.client.work import Work
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.datasets.tables import TABLES
from ampd_ray.metadb import datasets, files, quarantine, revisions
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.files import TableSummary, Uncounted
from ampd_ray.store.files import Store


@dataclass(frozen=True)
class Summary:
    """What a job's range holds now; ``holes`` are the blocks that some table lacks.

    ``quarantined`` of them were set aside because no provider delivers them correctly. ``end`` is ``start - 1`` for a
    job without a last block that has none yet.

    ``blocks`` and ``rows`` are those of the range. ``files`` and ``bytes`` are of whole files, also where a file
    reaches out of the range. ``retries`` and ``seconds`` are of the job's last run.
    """

    dataset: str
    network: str
    start: int
    end: int
    blocks: int
    rows: dict[str, int]
    files: int
    bytes: int
    retries: int
    holes: list[Span] = field(default_factory=list)
    quarantined: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return summary_text(self, time=duration(self.seconds))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def as_json(self) -> dict[str, Any]:
        """The last line of ``ampd backfill --json``."""
        return {
            "dataset": self.dataset,
            "network": self.network,
            "start": self.start,
            "end": self.end,
            "blocks": self.blocks,
            "rows": self.rows,
            "files": self.files,
            "bytes": self.bytes,
            "retries": self.retries,
            "holes": [[hole.start, hole.end] for hole in self.holes],
            "quarantined": self.quarantined,
            "seconds": round(self.seconds, 3),
        }


async def summarise(db: Database, store: Store, work: Work, retries: int, seconds: float) -> Summary:
    """What is committed of a job's range by now."""
    found = await committed(db, work.dataset, work.reach, work.tables)
    last = max((span.end for table in found.values() for span in table.covered), default=work.start - 1)
    end = last if work.end is None else work.end
    span = Span(work.start, end) if end >= work.start else None
    lacking = [] if span is None else holes(span, found, work.tables)
    aside = [] if span is None else await set_aside(db, work.dataset, span)
    rows = dict.fromkeys(work.tables, 0)
    if span is not None:
        rows = await rows_within(db, store, found, span, work.tables)
    return Summary(
        dataset=work.dataset.dataset,
        network=work.network,
        start=work.start,
        end=end,
        blocks=end - work.start + 1 - sum(map(len, lacking)),
        rows=rows,
        files=sum(table.files for table in found.values()),
        bytes=sum(table.bytes for table in found.values()),
        retries=retries,
        holes=lacking,
        quarantined=sum(map(len, aside)) - sum(map(len, subtract(aside, lacking))),
        seconds=seconds,
    )


async def set_aside(db: Database, dataset: DatasetRef, span: Span) -> list[Span]:
    """The blocks of ``span`` that no provider delivers correctly; ``dataset`` names the manifest by its hash."""
    group = quarantine.group_of_dataset(dataset.namespace, dataset.name, str(dataset.revision))
    async with db.connection() as conn:
        return intersect([Span(block, block) for block in await quarantine.blocks(conn, group)], span)


async def committed(
    db: Database, dataset: DatasetRef, span: Span, tables: Sequence[str] = TABLES
) -> dict[str, TableSummary]:
    """Per table what its canonical files hold of ``span``; a table without a file is absent."""
    async with db.connection() as conn:
        manifest_hash = await datasets.resolve(conn, dataset)
        found = await revisions.active_revisions(conn, dataset.namespace, dataset.name, manifest_hash)
        ids = [revision.location_id for table, revision in found.items() if table in tables]
        return await files.summary(conn, ids, span) if ids else {}


async def rows_within(
    db: Database, store: Store, found: Mapping[str, TableSummary], span: Span, tables: Sequence[str]
) -> dict[str, int]:
    """Per table the rows of ``span``; files that reach out of it are read. ``ObjectMissing`` if one is not there."""
    rows = {table: found[table].rows if table in found else 0 for table in tables}
    ids = [found[table].location_id for table in tables if table in found]
    if not ids:
        return rows
    async with db.connection() as conn:
        uncounted = await files.uncounted(conn, ids, span)
    for file in uncounted:
        rows[file.table] += await asyncio.to_thread(_count, store, file, span) - file.counted
    return rows


def _count(store: Store, file: Uncounted, span: Span) -> int:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with store.open(file.path) as opened:
        parquet = pq.ParquetFile(opened)
        if file.within:
            return int(parquet.metadata.num_rows)
        numbers = parquet.read(columns=["_block_num"]).column(0)
        within = pc.and_(pc.greater_equal(numbers, span.start), pc.less_equal(numbers, span.end))
        return int(pc.sum(within).as_py() or 0)


def holes(span: Span, found: Mapping[str, TableSummary], tables: Sequence[str] = TABLES) -> list[Span]:
    """The blocks of ``span`` that at least one of ``tables`` lacks."""
    covered = [found[table].covered if table in found else () for table in tables]
    return merge([hole for spans in covered for hole in subtract(span, spans)])
