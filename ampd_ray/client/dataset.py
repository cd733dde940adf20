"""A dataset as its readers see it: committed, canonical rows, and which blocks are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ampd_ray.client.coverage import Coverage
from ampd_ray.client.dataset_calls import DatasetCalls, pinned
from ampd_ray.client.displays.dataset import dataset_html, dataset_text
from ampd_ray.client.frames import add_views, duckdb_connection, pandas_frame, polars_frame
from ampd_ray.client.missing import warn_of_missing
from ampd_ray.client.statements import check_select, explained
from ampd_ray.client.tables import Snapshot, arrow_dataset, first_rows, last_rows, reading
from ampd_ray.datasets.evm.schemas import SCHEMAS, TABLES
from ampd_ray.datasets.manifest import Manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import NotFound
from ampd_ray.metadb.files import TableSummary

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation
    from pandas import DataFrame as PandasFrame
    from polars import DataFrame as PolarsFrame
    from pyarrow.dataset import Dataset as ArrowDataset

    from ampd_ray.client.job import Job
    from ampd_ray.client.session import Client


class Dataset:
    """One version of a dataset; ``ref`` is ``"namespace/name[@revision]"``, and means what it meant at the beginning.

    Each call shows what is committed by then, and what it returns stays as it is. ``blocks`` is a range as everywhere
    (``"15M:16M"``, the end excluded); one that counts from the end (``"-1000:"``) does so from the last block that is
    there. Rows outside of it do not come, and files outside of it are not opened. If some of them have not been
    extracted, a ``MissingBlocks`` warns of it.

    Raises ``NotFound`` for a dataset, table or column that does not exist, ``InvalidRange``, ``NothingThere`` if none
    of ``blocks`` has been extracted, and ``ExtraMissing`` where a library is asked for that is not installed.
    """

    def __init__(self, client: Client, ref: DatasetRef | str):
        given = DatasetRef.parse(ref) if isinstance(ref, str) else ref
        self.ref = client.run(pinned(client.calls, given))
        self.calls = DatasetCalls(client.calls, self.ref)
        """What it asks of the database, as coroutines for the session's loop."""
        self._client = client

    def __repr__(self) -> str:
        return f"<Dataset {self.name}>"

    def __str__(self) -> str:
        return dataset_text(self.summary(), self.coverage())

    def _repr_html_(self) -> str:
        return dataset_html(self.summary(), self.coverage())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self) if cycle else str(self))

    @property
    def name(self) -> str:
        """``namespace/name``."""
        return self.ref.dataset

    @property
    def network(self) -> str:
        """The network of its blocks."""
        return self.manifest.network

    @property
    def start_block(self) -> int:
        """The first block that it is to hold."""
        return self.manifest.start_block

    @property
    def manifest(self) -> Manifest:
        """What it is."""
        return self._client.run(self.calls.manifest())

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are extracted; all that it may have while none is."""
        return self._client.run(self.calls.tables())

    def job(self) -> Job | None:
        """The job that fills it; None before there was one."""
        job_id = self._client.run(self.calls.job_id())
        return None if job_id is None else self._client.job(job_id)

    def summary(self) -> dict[str, TableSummary]:
        """Rows, files, bytes and blocks by table; those that have no directory yet are absent."""
        return self._client.run(self.calls.summary())

    def coverage(self, blocks: str | None = None) -> Coverage:
        """Which blocks are there, verified, set aside, missing; it shows itself as a picture.

        By default from the first block to the last that is there or that the newest job was asked for.
        """
        return self._client.run(self.calls.coverage(blocks))

    # -- rows ---------------------------------------------------------------------------------------------------------

    def files(self, table: str = "logs", blocks: str | None = None) -> list[str]:
        """The paths of a table's committed files in block order; what a reorg or a repair replaced is not among them.

        In an object store they are URLs. A file that has one of ``blocks`` may have others.
        """
        return self._snapshot(table, blocks).paths(table)

    def scan(self, table: str = "logs", blocks: str | None = None) -> ArrowDataset:
        """The rows of a table as a ``pyarrow.dataset``; a filter on ``block_num`` opens only the files it needs."""
        return arrow_dataset(self._snapshot(table, blocks), table)

    def to_arrow(
        self, table: str = "logs", columns: Sequence[str] | None = None, blocks: str | None = None
    ) -> pa.Table:
        """The rows of a table in memory. Raises ``ObjectMissing`` for a file that was deleted meanwhile."""
        rows, wanted = self.scan(table, blocks), _columns(table, columns)
        with reading(f"a file of {self.name} cannot be read"):
            return rows.to_table(columns=wanted)

    def head(
        self, table: str = "logs", rows: int = 5, columns: Sequence[str] | None = None, *, tail: bool = False
    ) -> pa.Table:
        """The first rows of a table, or with ``tail`` the last ones; no more is read than it takes.

        Raises ``ObjectMissing`` for a file that was deleted meanwhile.
        """
        taken, wanted = self._snapshot(table), _columns(table, columns)
        with reading(f"a file of {self.name} cannot be read"):
            return (last_rows if tail else first_rows)(taken, table, rows, wanted)

    def to_polars(
        self, table: str = "logs", columns: Sequence[str] | None = None, blocks: str | None = None
    ) -> PolarsFrame:
        """The rows of a table as a Polars frame, without loss: bytes as Binary, wei as Decimal(38, 0), times in UTC."""
        return polars_frame(self.to_arrow(table, columns, blocks))

    def to_pandas(
        self, table: str = "logs", columns: Sequence[str] | None = None, blocks: str | None = None
    ) -> PandasFrame:
        """The rows of a table as a pandas frame, without loss: wei as Arrow's decimals, what may be null as UInt64."""
        return pandas_frame(self.to_arrow(table, columns, blocks))

    def to_duckdb(
        self, con: DuckDBPyConnection | None = None, blocks: str | None = None, schema: str | None = None
    ) -> DuckDBPyConnection:
        """A DuckDB connection (``con``, or a new one in memory) with a view for each table, of what is committed now.

        ``to_0x(address)`` and ``from_0x('0xa0b8…')`` are there to read and to write bytes.
        All tables are of the same moment. The views are temporary, unless they are to be in a ``schema``. Call it again
        with the same ``con`` to see what has been committed since.
        """
        con = duckdb_connection() if con is None else con
        taken = self._taken(TABLES, blocks)
        with explained():
            add_views(con, taken, schema)
        return con

    def sql(self, query: str, blocks: str | None = None) -> DuckDBPyRelation:
        """What a select says of the tables, as a DuckDB relation: ``.show()``, ``.pl()``, ``.to_arrow_table()``.

        For other statements than a select there is ``to_duckdb()``.
        Data frames of the caller may be joined by the names of their variables. Raises ``InvalidQuery``, and
        ``StoreError`` for a file that cannot be read; what goes wrong later, as the rows come, is DuckDB's own error.
        """
        con = self.to_duckdb(blocks=blocks)
        with explained():
            check_select(con, query)
            return con.sql(query)

    def _snapshot(self, table: str, blocks: str | None = None) -> Snapshot:
        __tracebackhide__ = True
        return self._taken([table], blocks)

    def _taken(self, tables: Sequence[str], blocks: str | None) -> Snapshot:
        __tracebackhide__ = True
        taken = self._client.run(self.calls.snapshot(tables, blocks))
        warn_of_missing(taken, self.name)
        return taken


def _columns(table: str, wanted: Sequence[str] | None) -> list[str] | None:
    names = SCHEMAS[table].names
    unknown = [name for name in wanted or () if name not in names]
    if unknown:
        raise NotFound(f"table {table} has no column {', '.join(unknown)}; its columns are {', '.join(names)}")
    return None if wanted is None else list(wanted)
