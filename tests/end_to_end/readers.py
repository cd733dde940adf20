"""Questions to committed files, and how each reader is asked: pyarrow, parquet-rs by DataFusion, DuckDB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from datafusion import SessionConfig, SessionContext

from tests.reference import Row

TABLES = ("blocks", "transactions", "logs")
TRANSFER = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")


def most_frequent(rows: pa.Table, column: str) -> bytes:
    """A value that many rows have, but not all."""
    counts = Counter(value for value in rows[column].to_pylist() if value is not None)
    value: bytes = next(value for value, count in counts.most_common() if count < rows.num_rows)
    return value


@dataclass(frozen=True)
class Question:
    """One predicate: ``column`` between two values, both included; which values it takes from the rows."""

    table: str
    column: str
    bounds: Callable[[pa.Table], tuple[Any, Any]]

    def __str__(self) -> str:
        return f"{self.table}-{self.column}"

    def by_pyarrow(self, rows: pa.Table) -> pa.Table:
        low, high = (pa.scalar(bound, rows.schema.field(self.column).type) for bound in self.bounds(rows))
        values = rows[self.column]
        same = pc.equal(values, low) if low == high else pc.and_(
            pc.greater_equal(values, low), pc.less_equal(values, high)
        )  # fmt: skip
        return rows.filter(same)

    def sql(self, rows: pa.Table, binary: str) -> str:
        """The predicate; ``binary`` is how the reader writes bytes."""
        low, high = (binary.format(b.hex()) if isinstance(b, bytes) else str(b) for b in self.bounds(rows))
        return f'"{self.column}" = {low}' if low == high else f'"{self.column}" between {low} and {high}'


def blocks(low: int, high: int) -> Callable[[pa.Table], tuple[int, int]]:
    return lambda rows: (low, high)


def frequent(column: str) -> Callable[[pa.Table], tuple[bytes, bytes]]:
    def bounds(rows: pa.Table) -> tuple[bytes, bytes]:
        value = most_frequent(rows, column)
        return value, value

    return bounds


QUESTIONS = [
    *(Question(table, "_block_num", blocks(120, 130)) for table in TABLES),
    *(Question(table, "_block_num", blocks(238, 238)) for table in TABLES),
    Question("blocks", "hash", lambda rows: (rows["hash"][77].as_py(),) * 2),
    Question("blocks", "miner", frequent("miner")),
    Question("transactions", "to", frequent("to")),
    Question("transactions", "from", frequent("from")),
    Question("transactions", "tx_hash", lambda rows: (rows["tx_hash"][1000].as_py(),) * 2),
    Question("transactions", "type", blocks(4, 4)),
    Question("logs", "address", frequent("address")),
    Question("logs", "topic0", lambda rows: (TRANSFER, TRANSFER)),
    Question("logs", "topic1", frequent("topic1")),
    Question("logs", "topic3", frequent("topic3")),
]


def in_order(table: str, rows: list[Row]) -> list[Row]:
    position = {"blocks": None, "transactions": "tx_index", "logs": "log_index"}[table]
    return sorted(rows, key=lambda row: (row["_block_num"], row[position] if position else 0))


def datafusion(paths: dict[str, list[str]], *, pushdown: bool = True) -> SessionContext:
    """A session of parquet-rs with page index and bloom filters asked for, types as they stand in the files."""
    config = (
        SessionConfig()
        .set("datafusion.execution.parquet.enable_page_index", "true")
        .set("datafusion.execution.parquet.bloom_filter_on_read", "true")
        .set("datafusion.execution.parquet.pushdown_filters", str(pushdown).lower())
        .set("datafusion.execution.parquet.schema_force_view_types", "false")
        .with_target_partitions(1)
    )
    context = SessionContext(config)
    for table, of_table in paths.items():
        folder = {str(Path(path).parent) for path in of_table}
        assert len(folder) == 1
        context.register_parquet(table, f"{folder.pop()}/")
    return context


def by_datafusion(context: SessionContext, table: str, predicate: str) -> pa.Table:
    return context.sql(f"select * from {table} where {predicate}").to_arrow_table()


def by_duckdb(paths: list[str], predicate: str) -> pa.Table:
    with duckdb.connect() as connection:
        return connection.sql(f"select * from read_parquet(?) where {predicate}", params=[paths]).to_arrow_table()
