"""What is committed of a block range, by the rows of the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampd_ray.chain.ranges import Span, merge, subtract
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb import datasets, files, revisions
from ampd_ray.metadb.files import TableSummary, Uncounted
from ampd_ray.store.files import Store, open_store

if TYPE_CHECKING:
    from ampd_ray.client.session import Client


@dataclass(frozen=True)
class Summary:
    """What a backfill's range holds now; ``holes`` are the blocks that some table lacks.

    ``quarantined`` of them were set aside because no provider delivers them correctly.

    ``blocks`` and ``rows`` are those of the range. ``files`` and ``bytes`` are of whole files, also where a file
    reaches out of the range.
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


def committed(client: Client, dataset: DatasetRef, span: Span, tables: Sequence[str]) -> dict[str, TableSummary]:
    """Per table what its canonical files hold of ``span``; a table without a file is absent."""

    async def ask() -> dict[str, TableSummary]:
        async with client.db.connection() as conn:
            manifest_hash = await datasets.resolve(conn, dataset)
            found = await revisions.active_revisions(conn, dataset.namespace, dataset.name, manifest_hash)
            ids = [revision.location_id for table, revision in found.items() if table in tables]
            return await files.summary(conn, ids, span) if ids else {}

    return client.run(ask())


def rows_within(client: Client, found: Mapping[str, TableSummary], span: Span, tables: Sequence[str]) -> dict[str, int]:
    """Per table the rows of ``span``; files that reach out of it are read. ``ObjectMissing`` if one is not there."""
    store = open_store(client.settings.data_dir)
    ids = [found[table].location_id for table in tables if table in found]

    async def ask() -> list[Uncounted]:
        async with client.db.connection() as conn:
            return await files.uncounted(conn, ids, span)

    rows = {table: found[table].rows if table in found else 0 for table in tables}
    for file in client.run(ask()) if ids else ():
        rows[file.table] += _count(store, file, span) - file.counted
    return rows


def _count(store: Store, file: Uncounted, span: Span) -> int:
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
