"""Committed rows in the libraries that people analyse with; each is imported when it is asked for."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ampd_ray.client.tables import Snapshot
from ampd_ray.config import local_path
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.errors import ExtraMissing

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pandas import DataFrame as PandasFrame
    from polars import DataFrame as PolarsFrame

    from ampd_ray.store.files import Store

MACROS = (
    "create or replace temp macro to_0x(bytes) as '0x' || lower(hex(bytes))",
    "create or replace temp macro from_0x(hex) as from_hex(regexp_replace(hex, '^0[xX]', ''))",
)


def library(name: str) -> Any:
    """A library of the extra ``notebook``. Raises ExtraMissing."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ExtraMissing(f"this needs {name}: pip install 'ampd-ray[notebook]'", library=name) from None


def polars_frame(rows: pa.Table) -> PolarsFrame:
    """The rows in Polars, without loss: hashes and addresses as Binary, wei as Decimal(38, 0), times in UTC."""
    frame: PolarsFrame = library("polars").from_arrow(rows)
    return frame


def pandas_frame(rows: pa.Table) -> PandasFrame:
    """The rows in pandas, without loss.

    Left to itself Arrow makes floats of integers that may be null, and neither converts nor prints lists of hashes.
    """
    pandas = library("pandas")
    columns = {field.name: _series(pandas, field, rows[field.name]) for field in rows.schema}
    frame: PandasFrame = pandas.DataFrame(columns, index=pandas.RangeIndex(rows.num_rows))
    return frame


def _series(pandas: Any, field: pa.Field, values: pa.ChunkedArray) -> Any:
    if pa.types.is_nested(field.type):
        return pandas.Series(values.to_pylist(), dtype=object)
    if pa.types.is_decimal(field.type):
        return values.to_pandas(types_mapper=pandas.ArrowDtype)
    kinds = {pa.string(): pandas.StringDtype(na_value=math.nan)}  # of no row as well
    if field.nullable:
        kinds[pa.uint64()] = pandas.UInt64Dtype()
    return values.to_pandas(types_mapper=kinds.get)


def duckdb_connection(*, frames: bool = True) -> DuckDBPyConnection:
    """A DuckDB in memory; with ``frames`` it finds data frames of its callers by the names of their variables.

    Its days begin at midnight in UTC, whatever time this machine has.
    """
    config = {"python_scan_all_frames": frames, "python_enable_replacements": frames}
    connection: DuckDBPyConnection = library("duckdb").connect(config=config)
    connection.execute("set timezone = 'UTC'")
    return connection


def shut_in(con: DuckDBPyConnection, store: Store) -> None:
    """From now on it reads files of ``store`` alone, and loads, logs and asks for nothing from elsewhere."""
    con.execute(f"set allowed_directories = [{_text(_root(con, store))}]")
    con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")


def add_views(con: DuckDBPyConnection, taken: Snapshot, schema: str | None = None) -> None:
    """A view for each table: temporary ones, or in ``schema``, which is made; ``to_0x`` and ``from_0x`` for literals.

    DuckDB reads Parquet by itself, which is three times as fast as an Arrow dataset; types are the same.
    """
    for macro in MACROS:
        con.execute(macro)
    if schema is not None:
        con.execute(f"create schema if not exists {_identifier(schema)}")
    root = _root(con, taken.store)
    for table in taken.files:
        paths = [root + file.path for file in taken.files[table]]
        rows = _stored(paths) if paths else _nothing(con, SCHEMAS[table])
        edges = taken.edges(table)
        within = "" if edges is None else f" where block_num between {edges.start} and {edges.end}"
        view = (
            f"temp view {_identifier(table)}" if schema is None else f"view {_identifier(schema)}.{_identifier(table)}"
        )
        con.execute(f"create or replace {view} as {rows}{within}")


def _root(con: DuckDBPyConnection, store: Store) -> str:
    """What DuckDB finds the store's files below, with a slash at its end; an object store's by a way of ours."""
    url = store.url_of("_").removesuffix("_")
    if (here := local_path(url)) is not None:
        return f"{here}/"
    library("fsspec")
    from ampd_ray.client.remote import OURS, make_readable

    make_readable(con, url, store)
    return OURS + url


def _stored(paths: list[str]) -> str:
    """The rows of files; parts of a path that look like partitions of Hive mean nothing."""
    names = ", ".join(map(_text, paths))
    return f"select * from read_parquet([{names}], hive_partitioning = false)"  # noqa: S608 - DuckDB takes no parameters here


def _nothing(con: DuckDBPyConnection, schema: pa.Schema) -> str:
    """No row, and the types that the files would have."""
    like = con.from_arrow(schema.empty_table())
    columns = (f"null::{kind} as {_identifier(name)}" for name, kind in zip(like.columns, like.types, strict=True))
    return f"select * from (select {', '.join(columns)}) where false"  # noqa: S608 - our own names


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
