"""What is committed, for readers: the files of a table, and an Arrow dataset over them.

A directory listing is not the table: it also shows what a reorg or a repair has replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from ampd_ray.config import local_path
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import NotFound
from ampd_ray.metadb import datasets, files, revisions
from ampd_ray.store.files import open_store

if TYPE_CHECKING:
    from ampd_ray.client.session import Client


def table_files(client: Client, dataset: DatasetRef, table: str) -> list[str]:
    """The paths of a table's committed, canonical files in the order of their blocks."""

    async def ask() -> list[str]:
        async with client.db.connection() as conn:
            manifest_hash = await datasets.resolve(conn, dataset)
            found = await revisions.active_revisions(conn, dataset.namespace, dataset.name, manifest_hash)
            if table not in found:
                return []
            names = await files.canonical_names(conn, found[table].location_id)
            return [f"{found[table].path}/{name}" for name in names]

    _known(table)
    store = open_store(client.settings.data_dir)
    return [str(local_path(store.url_of(path))) for path in client.run(ask())]


def table_scan(client: Client, dataset: DatasetRef, table: str) -> ds.Dataset:
    """The committed, canonical rows of a table as they are now."""
    schema = SCHEMAS[_known(table)]
    return ds.dataset(table_files(client, dataset, table), schema=schema, format="parquet")


def _known(table: str) -> str:
    if table not in SCHEMAS:
        raise NotFound(f"there is no table {table!r}; the tables are {', '.join(SCHEMAS)}")
    return table
