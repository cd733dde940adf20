"""A dataset as its readers see it: committed, canonical rows, and which blocks are there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ampd_ray.chain.expression import MAX_BLOCK, parse_range
from ampd_ray.chain.ranges import Span
from ampd_ray.client.coverage import Coverage, TableCoverage
from ampd_ray.client.displays.dataset import dataset_html, dataset_text
from ampd_ray.client.frames import add_views, duckdb_connection, pandas_frame, polars_frame
from ampd_ray.client.tables import Snapshot, arrow_dataset, first_rows, last_rows, snapshot
from ampd_ray.datasets.evm.schemas import SCHEMAS, TABLES
from ampd_ray.datasets.manifest import Manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import NotFound
from ampd_ray.metadb import coverage, datasets, files, revisions
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.coverage import Version
from ampd_ray.metadb.files import TableSummary
from ampd_ray.metadb.revisions import Revision
from ampd_ray.store.files import open_store

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation
    from pandas import DataFrame as PandasFrame
    from polars import DataFrame as PolarsFrame
    from pyarrow.dataset import Dataset as ArrowDataset

    from ampd_ray.client.job import Job
    from ampd_ray.client.session import Client

T = TypeVar("T")
EVERYTHING = Span(0, MAX_BLOCK - 1)


class Dataset:
    """One version of a dataset; ``ref`` is ``"namespace/name[@revision]"``, and means what it meant at the beginning.

    Each call shows what is committed by then, and what it returns stays as it is. ``blocks`` is a range as everywhere
    (``"15M:16M"``, the end excluded); one that counts from the end (``"-1000:"``) does so from the last block that is
    there. Rows outside of it do not come, and files outside of it are not opened.

    Raises ``NotFound`` for a dataset, table or column that does not exist, ``InvalidRange``, and ``ExtraMissing`` where
    a library is asked for that is not installed.
    """

    def __init__(self, client: Client, ref: DatasetRef | str):
        given = DatasetRef.parse(ref) if isinstance(ref, str) else ref
        self._client = client
        self.ref = DatasetRef(given.namespace, given.name, self._ask(lambda conn: datasets.resolve(conn, given)))

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
    def tables(self) -> tuple[str, ...]:
        """The tables that are extracted; all that it may have while none is."""
        return _present(self._ask(self._revisions))

    @cached_property
    def manifest(self) -> Manifest:
        """What it is."""
        return self._client.manifest(self.ref)

    def job(self) -> Job | None:
        """The job that fills it; None before there was one."""
        found = self._ask(lambda conn: coverage.newest_job(conn, self._version))
        return None if found is None else self._client.job(found.job_id)

    def summary(self) -> dict[str, TableSummary]:
        """Rows, files, bytes and blocks by table; those that have no directory yet are absent."""

        async def ask(conn: Connection) -> dict[str, TableSummary]:
            ids = [revision.location_id for revision in (await self._revisions(conn)).values()]
            return await files.summary(conn, ids, EVERYTHING)

        found = self._ask(ask)
        return {table: found[table] for table in TABLES if table in found}

    def coverage(self, blocks: str | None = None) -> Coverage:
        """Which blocks are there, verified, set aside, missing; it shows itself as a picture.

        By default from the first block to the last that is there or that the newest job was asked for.
        """
        first, network = self.start_block, self.network
        asked = None if blocks is None else parse_range(blocks)

        async def ask(conn: Connection) -> tuple[Span | None, dict[str, TableCoverage]]:
            found = await self._revisions(conn)
            ids = {table: revision.location_id for table, revision in found.items()}
            last = await coverage.last_block(conn, ids.values(), network)
            job = await coverage.newest_job(conn, self._version)
            ends = [end for end in (last, job.end if job else None) if end is not None and end >= first]
            span = asked.reached(last) if asked else Span(first, max(ends)) if ends else None
            if span is None:
                return None, {}
            pictured = await coverage.coverage(conn, self._version, ids.values(), span)
            return span, {table: TableCoverage(**pictured[ids[table]]) for table in ids}

        span, pictured = self._ask(ask)
        start, end = (first, first - 1) if span is None else (span.start, span.end)
        nothing = TableCoverage((), (), (), () if span is None else (span,))
        tables = {table: pictured.get(table, nothing) for table in _present(pictured)}
        return Coverage(self.name, network, start, end, tables)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def files(self, table: str = "logs", blocks: str | None = None) -> list[str]:
        """The paths of a table's committed files in block order; what a reorg or a repair replaced is not among them.

        A file that has one of ``blocks`` may have others.
        """
        return self._snapshot([table], blocks).paths(table)

    def scan(self, table: str = "logs", blocks: str | None = None) -> ArrowDataset:
        """The rows of a table as a ``pyarrow.dataset``; a filter on ``block_num`` opens only the files it needs."""
        return arrow_dataset(self._snapshot([table], blocks), table)

    def to_arrow(
        self, table: str = "logs", columns: Sequence[str] | None = None, blocks: str | None = None
    ) -> pa.Table:
        """The rows of a table in memory."""
        found = self.scan(table, blocks)
        return found.to_table(columns=_columns(table, columns))

    def head(
        self, table: str = "logs", rows: int = 5, columns: Sequence[str] | None = None, *, tail: bool = False
    ) -> pa.Table:
        """The first rows of a table, or with ``tail`` the last ones; no more is read than it takes."""
        taken = self._snapshot([table])
        return (last_rows if tail else first_rows)(taken, table, rows, _columns(table, columns))

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
        add_views(con, self._snapshot(TABLES, blocks), schema)
        return con

    def sql(self, query: str, blocks: str | None = None) -> DuckDBPyRelation:
        """What a query says of the tables, as a DuckDB relation: ``.show()``, ``.pl()``, ``.to_arrow_table()``.

        Data frames of the caller may be joined by the names of their variables. Raises DuckDB's errors.
        """
        return self.to_duckdb(blocks=blocks).sql(query)

    # -- how ----------------------------------------------------------------------------------------------------------

    @property
    def _version(self) -> Version:
        assert self.ref.revision is not None
        return Version(self.ref.namespace, self.ref.name, self.ref.revision)

    def _snapshot(self, tables: Sequence[str], blocks: str | None = None) -> Snapshot:
        for table in tables:
            if table not in SCHEMAS:
                raise NotFound(f"there is no table {table!r}; the tables of {self.name} are {', '.join(TABLES)}")
        asked = None if blocks is None else parse_range(blocks)
        network = self.network if asked and asked.is_relative else ""
        store = open_store(self._client.settings.data_dir)

        async def ask(conn: Connection) -> Snapshot:
            found = await self._revisions(conn)
            ids = [revision.location_id for revision in found.values()]
            span = None
            if asked is not None:
                span = asked.reached(await coverage.last_block(conn, ids, network) if asked.is_relative else None)
                if span is None:
                    return Snapshot(dict.fromkeys(tables, ()))
            taken = await snapshot(conn, store, {name: found[name] for name in tables if name in found}, span)
            return Snapshot({name: taken.files.get(name, ()) for name in tables}, span)

        return self._ask(ask)

    async def _revisions(self, conn: Connection) -> dict[str, Revision]:
        version = self._version
        return await revisions.active_revisions(conn, version.namespace, version.name, version.manifest_hash)

    def _ask(self, verb: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        async def asked() -> T:
            async with self._client.db.connection() as conn:
                return await verb(conn)

        return self._client.run(asked())


def _present(tables: Collection[str]) -> tuple[str, ...]:
    """The tables that have a directory, in their usual order; all while none has."""
    return tuple(table for table in TABLES if table in tables) or TABLES


def _columns(table: str, wanted: Sequence[str] | None) -> list[str] | None:
    names = SCHEMAS[table].names
    unknown = [name for name in wanted or () if name not in names]
    if unknown:
        raise NotFound(f"table {table} has no column {', '.join(unknown)}; its columns are {', '.join(names)}")
    return None if wanted is None else list(wanted)
