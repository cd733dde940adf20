"""What is committed, for readers: the files of a dataset's tables at one moment, and an Arrow dataset over them.

A directory listing is not the table: it also shows what a reorg or a repair has replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ampd_ray.chain.ranges import Span, subtract
from ampd_ray.config import local_path
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.errors import ObjectMissing, StoreError
from ampd_ray.metadb import files
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.revisions import Revision
from ampd_ray.store.files import Store

BATCH_ROWS = 1 << 17
MOST_ROWS = 2**31 - 1  # that Arrow counts to, and more than memory holds


@dataclass(frozen=True, slots=True)
class TableFile:
    """A committed, canonical file, and the blocks in it; some of them may have no row.

    ``path`` is that in the data directory. ``size``, in bytes, spares a question to the store; None if unknown.
    """

    path: str
    span: Span
    size: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of some tables at one moment, in block order; rows outside of ``blocks`` (None: no limit) don't count.

    ``store`` has them.

    All tables are of the same moment, so that what is joined fits together. ``lacking``: those of ``blocks`` that no
    file has, by table.
    """

    store: Store
    files: Mapping[str, Sequence[TableFile]]
    blocks: Span | None = None
    lacking: Mapping[str, Sequence[Span]] = field(default_factory=dict)

    def paths(self, table: str) -> list[str]:
        """Where a table's files are, for any program: paths, or URLs of an object store."""
        return [place_of(self.store, file.path) for file in self.files[table]]

    def edges(self, table: str) -> Span | None:
        """What to filter a table's rows by: ``blocks``, if some of its files reach out of them."""
        if self.blocks is None:
            return None
        ends = [number for file in self.files[table] for number in (file.span.start, file.span.end)]
        return None if all(number in self.blocks for number in ends) else self.blocks


async def snapshot(
    conn: Connection, store: Store, revisions: Mapping[str, Revision], blocks: Span | None = None
) -> Snapshot:
    """The files of the revisions, by table, that have one of ``blocks``."""
    ids = [revision.location_id for revision in revisions.values()]
    found = await files.canonical_files(conn, ids, blocks)
    taken = {
        table: [
            TableFile(f"{revision.path}/{file.file_name}", file.span, file.size) for file in found[revision.location_id]
        ]
        for table, revision in revisions.items()
    }
    if blocks is None:
        return Snapshot(store, taken)
    return Snapshot(
        store, taken, blocks, {table: subtract(blocks, [each.span for each in taken[table]]) for table in taken}
    )


def place_of(store: Store, path: str) -> str:
    """Where a file of the store is: its path on this machine, or its URL."""
    url = store.url_of(path)
    here = local_path(url)
    return url if here is None else str(here)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Arrow's errors in our words, ``what`` being read; it has names for those of disks and stores alike."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(f"{what}: {error}. If it was not replaced just now, see `ampd check`.") from None
    except OSError as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{what}: {reason}. Run it again once its store can be read, or see `ampd check`.") from None


def arrow_dataset(taken: Snapshot, table: str) -> ds.Dataset:
    """The rows of a table; a filter on ``block_num`` opens no file that cannot have a match."""
    schema, parquet, system = SCHEMAS[table], ds.ParquetFileFormat(), taken.store.arrow()
    fragments = [
        parquet.make_fragment(file.path, system, partition_expression=_holds(file.span), file_size=file.size)
        for file in taken.files[table]
    ]
    whole = ds.FileSystemDataset(fragments, schema, parquet, system)
    edges = taken.edges(table)
    return whole if edges is None else whole.filter(_within("block_num", edges))


def first_rows(taken: Snapshot, table: str, count: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The first rows of a table in block order."""
    rows = arrow_dataset(taken, table).scanner(
        columns=columns, batch_size=max(1, min(count, BATCH_ROWS)), batch_readahead=1, fragment_readahead=1
    )
    return rows.head(min(count, MOST_ROWS))


def last_rows(taken: Snapshot, table: str, count: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The last rows of a table in block order, which are in the last row groups of its last files."""
    schema = SCHEMAS[table] if columns is None else pa.schema([SCHEMAS[table].field(name) for name in columns])
    pieces = [schema.empty_table()]
    lacking, system = count, taken.store.arrow()
    for each in reversed(taken.files[table]):
        with pq.ParquetFile(each.path, filesystem=system) as file:
            groups = file.num_row_groups
            while lacking and groups:
                groups -= 1
                rows = file.read_row_group(groups, columns=columns).select(schema.names).cast(schema)
                pieces.insert(0, rows.slice(max(0, len(rows) - lacking)))
                lacking -= len(pieces[0])
        if not lacking:
            break
    return pa.concat_tables(pieces)


def _holds(span: Span) -> pc.Expression:
    return _within("block_num", span) & _within("_block_num", span)


def _within(column: str, span: Span) -> pc.Expression:
    number = pc.field(column)
    return (number >= pa.scalar(span.start, pa.uint64())) & (number <= pa.scalar(span.end, pa.uint64()))
