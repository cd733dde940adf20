"""Tables with committed files, made by hand: rows that hold little, in files that the database knows."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from ampd_ray.client import Client
from ampd_ray.client.tables import place_of
from ampd_ray.datasets.evm.schemas import DECIMAL, SCHEMAS
from ampd_ray.metadb import revisions
from ampd_ray.store.files import open_store

U256_MAX = 2**256 - 1


class Table:
    """The revision of one table of a dataset _/NAME of network devnet, to put files into."""

    def __init__(self, client: Client, url: str, manifest_hash: str, name: str = "logs", dataset: str = "devnet"):
        self.revision = client.run(revisions.open_revision(client.db, "_", dataset, manifest_hash, name))
        self.store = open_store(client.settings.data_dir)
        self.schema = SCHEMAS[name]
        self.url = url

    def add(
        self, name: str, start: int, end: int, *, canonical: bool | None = True, verified: str | None = None,
        counted: bool = False,
    ) -> str:  # fmt: skip
        """A file with a row for each block; canonical None: it is not registered. Where it is."""
        path, content = f"{self.revision.path}/{name}", pa.BufferOutputStream()
        rows = [filled_in(self.schema, number) for number in range(start, end + 1)]
        pq.write_table(pa.Table.from_pylist(rows, self.schema), content)
        data = content.getvalue().to_pybytes()
        self.store.write(path, data)
        if canonical is not None:
            self._register(name, (start, end), canonical, verified, len(rows) if counted else None, len(data))
        return place_of(self.store, path)

    def remove(self, name: str) -> None:
        """Delete a file behind everybody's back."""
        self.store.delete(f"{self.revision.path}/{name}")

    def _register(
        self, name: str, span: tuple[int, int], canonical: bool, verified: str | None, rows: int | None, size: int
    ) -> None:
        with psycopg.connect(self.url) as session:
            row = session.execute(
                "insert into file_metadata (location_id, file_name, metadata, url, object_size) "
                "values (%s, %s, '{}', %s, %s) returning id",
                [self.revision.location_id, name, self.store.url_of(self.revision.path), size],
            ).fetchone()
            assert row is not None
            session.execute(
                "insert into ampd_ray.segment "
                "(file_id, location_id, network, blocks, start_parent, end_hash, canonical, verified, row_count) "
                "values (%s, %s, 'devnet', int8range(%s, %s, '[]'), '', '', %s, %s, %s)",
                [row[0], self.revision.location_id, *span, canonical, verified, rows],
            )


def filled_in(schema: pa.Schema, number: int) -> dict[str, Any]:
    """A row whose columns hold something, its block's number above all; optional ones in every other row."""
    return {field.name: _value(field.type, number) for field in schema if not field.nullable or number % 2}


def _value(kind: pa.DataType, number: int) -> Any:
    """What is hardest on a reader: amounts as large as they come, bytes that are no text."""
    if pa.types.is_list(kind):
        return [_value(kind.value_type, number)]
    if pa.types.is_struct(kind):
        return {field.name: _value(field.type, number) for field in kind}
    if pa.types.is_fixed_size_binary(kind):
        return number.to_bytes(kind.byte_width, "big")
    fixed = {pa.binary(): b"\xff\x00", pa.string(): str(U256_MAX), pa.bool_(): True, DECIMAL: 10**38 - 1}
    return fixed.get(kind, number * 12 * 10**9 if pa.types.is_timestamp(kind) else number)
