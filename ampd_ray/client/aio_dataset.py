"""A dataset for those who have an event loop: ``coverage = await dataset.coverage()``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation
    from pandas import DataFrame as PandasFrame
    from polars import DataFrame as PolarsFrame
    from pyarrow.dataset import Dataset as ArrowDataset

    from ampd_ray.client.coverage import Coverage
    from ampd_ray.client.dataset import Dataset
    from ampd_ray.metadb.files import TableSummary


class AsyncDataset:
    """One version of a dataset; ``sync`` is the same handle for plain calls. Files are read in a thread.

    ``ref`` and ``name`` as of :class:`Dataset`; raises as it does.
    """

    def __init__(self, dataset: Dataset):
        self.sync = dataset
        self.ref = dataset.ref
        self.name = dataset.name

    def __repr__(self) -> str:
        return f"<AsyncDataset {self.name}>"

    async def tables(self) -> tuple[str, ...]:
        """As :attr:`Dataset.tables`."""
        return await asyncio.to_thread(lambda: self.sync.tables)

    async def summary(self) -> dict[str, TableSummary]:
        """As :meth:`Dataset.summary`."""
        return await asyncio.to_thread(self.sync.summary)

    async def coverage(self, blocks: str | None = None) -> Coverage:
        """As :meth:`Dataset.coverage`."""
        return await asyncio.to_thread(self.sync.coverage, blocks)

    async def files(self, table: str = "logs", blocks: str | None = None) -> list[str]:
        """As :meth:`Dataset.files`."""
        return await asyncio.to_thread(self.sync.files, table, blocks)

    async def scan(self, table: str = "logs", blocks: str | None = None) -> ArrowDataset:
        """As :meth:`Dataset.scan`."""
        return await asyncio.to_thread(self.sync.scan, table, blocks)

    async def to_arrow(
        self, table: str = "logs", columns: Sequence[str] | None = None, blocks: str | None = None
    ) -> pa.Table:
        """As :meth:`Dataset.to_arrow`."""
        return await asyncio.to_thread(self.sync.to_arrow, table, columns, blocks)

    async def head(
        self, table: str = "logs", rows: int = 5, columns: Sequence[str] | None = None, *, tail: bool = False
    ) -> pa.Table:
        """As :meth:`Dataset.head`."""
        return await asyncio.to_thread(self.sync.head, table, rows, columns, tail=tail)

    async def to_polars(
        self, table: str = "logs", columns: Sequence[str] | None = None, blocks: str | None = None
    ) -> PolarsFrame:
        """As :meth:`Dataset.to_polars`."""
        return await asyncio.to_thread(self.sync.to_polars, table, columns, blocks)

    async def to_pandas(
        self, table: str = "logs", columns: Sequence[str] | None = None, blocks: str | None = None
    ) -> PandasFrame:
        """As :meth:`Dataset.to_pandas`."""
        return await asyncio.to_thread(self.sync.to_pandas, table, columns, blocks)

    async def to_duckdb(
        self, con: DuckDBPyConnection | None = None, blocks: str | None = None, schema: str | None = None
    ) -> DuckDBPyConnection:
        """As :meth:`Dataset.to_duckdb`."""
        return await asyncio.to_thread(self.sync.to_duckdb, con, blocks, schema)

    async def sql(self, query: str, blocks: str | None = None) -> DuckDBPyRelation:
        """As :meth:`Dataset.sql`, without frames of the caller: it runs in another thread."""
        return await asyncio.to_thread(self.sync.sql, query, blocks)
