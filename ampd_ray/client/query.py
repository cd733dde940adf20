"""SQL of a person over everything that is committed: which datasets it means, and its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ampd_ray.client.frames import duckdb_connection, shut_in
from ampd_ray.client.statements import check_select, explained
from ampd_ray.datasets.names import DEFAULT_NAMESPACE, DatasetRef
from ampd_ray.errors import NotFound, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from ampd_ray.client.session import Client

BATCH_ROWS = 10_000
TAKEN = {"main", "temp", "system", "pg_catalog", "information_schema"}  # schemas of DuckDB's own


def query(
    client: Client, text: str, dataset: DatasetRef | None = None, blocks: str | None = None
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The answer to a ``select``: its columns, and its rows as they come. No file is read but those of the data.

    ``logs`` is the table of ``dataset``, or of the only one there is; ``devnet.logs`` that of ``_/devnet``,
    ``"acme/eth".logs`` that of ``acme/eth``. Raises InvalidQuery, UsageError where it must be said which dataset is
    meant, NotFound, StoreError, ExtraMissing.
    """
    con = duckdb_connection(frames=False)
    with explained():
        check_select(con, text)
    known = [DatasetRef(row.namespace, row.name) for row in client.datasets()]
    mentioned = [ref for ref in known if _schema(ref) not in TAKEN and _mentions(text, _schema(ref))]
    meant = dataset or _only(known, mentioned)
    with explained():
        if meant is not None:
            client.dataset(meant).to_duckdb(con, blocks)
        for ref in mentioned:
            client.dataset(ref).to_duckdb(con, blocks, schema=_schema(ref))
        shut_in(con, client.calls.data)
        reader = con.sql(text).to_arrow_reader(BATCH_ROWS)
    return reader.schema, _batches(con, reader)


def _batches(con: Any, reader: Any) -> Iterator[pa.RecordBatch]:
    """The rows; until they have come, the connection must not go."""
    with con, explained():
        yield from reader


def _only(known: Sequence[DatasetRef], mentioned: Sequence[DatasetRef]) -> DatasetRef | None:
    """The dataset whose tables need no name before them; None if the query names all that it means."""
    if len(known) == 1:
        return known[0]
    if not known:
        raise NotFound("there is no dataset yet; the first one: ampd backfill --rpc URL --blocks 0:1000")
    if mentioned:
        return None
    names = ", ".join(ref.dataset for ref in known)
    raise UsageError(
        f"which dataset? There are {names}: give --dataset, or write the tables as {_schema(known[0])}.logs"
    )


def _schema(ref: DatasetRef) -> str:
    return ref.name if ref.namespace == DEFAULT_NAMESPACE else ref.dataset


def _mentions(text: str, schema: str) -> bool:
    name = re.escape(schema)
    return re.search(rf'(?<![\w"]){name}\s*\.|"{name}"\s*\.', text, re.IGNORECASE) is not None
