"""Committed files in the hands of strangers: parquet-rs (DataFusion), on which Amp's server is built, and DuckDB.

Real mainnet and test chain blocks, of every type and repeated to some thousand rows, are extracted by ``ampd
backfill`` with small row groups. Each reader answers the same questions with the same rows as pyarrow.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext

from ampd_ray.materialize.encode import TableFile, read_footer
from ampd_ray.materialize.types import WriterOptions
from tests.committed import CommittedFile
from tests.end_to_end.extraction import Source, by_backfill
from tests.fakes.replay import replay
from tests.reference import Row, comparable, read_set

pytestmark = pytest.mark.timeout(300)  # the first test waits for the extraction

TABLES = ("blocks", "transactions", "logs")
BLOCKS = 300
SETS = ("testchain-execution-apis", "mainnet-forks", "rpc-mainnet")
TRANSFER = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")


@dataclass(frozen=True)
class Committed:
    """The files of one extraction, and all rows of each table as pyarrow reads them."""

    files: dict[str, list[CommittedFile]]
    rows: dict[str, pa.Table]

    def paths(self, table: str) -> list[str]:
        return [str(file.path) for file in self.files[table]]


@pytest.fixture(scope="module")
def committed(chain_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Committed:
    """300 blocks with thousands of transactions and logs, in two segments and many row groups."""
    folder = tmp_path_factory.mktemp("readers")
    recorded = [answer for name in SETS for answer in read_set(chain_data / name)]
    served = folder / "blocks.jsonl"
    # Without genesis: its parent is all zeros, as is much else that a repetition must not rewrite.
    served.write_text("\n".join(json.dumps(answer) for answer in recorded if answer["block"]["number"] != "0x0"))
    with replay(str(served), options=("--tile", str(BLOCKS), "--chain-id", "1")) as node:
        source = Source("mainnet", node, [(0, BLOCKS - 1)])
        found = by_backfill([source], folder / "solo", AMP_CONFIG_WRITER__MAX_ROW_GROUP_MB="1")
    files = {table: [file for file in found.files if file.table == table] for table in TABLES}
    rows = {table: pa.concat_tables([file.read() for file in files[table]]) for table in TABLES}
    assert rows["blocks"].num_rows == BLOCKS
    assert set(rows["transactions"]["type"].to_pylist()) == {0, 1, 2, 3, 4}
    assert all(len(files[table]) >= 2 for table in TABLES)
    assert max(pq.read_metadata(file.path).num_row_groups for file in files["logs"]) > 2
    return Committed(files, rows)


# -- the same questions to all ------------------------------------------------------------------------------------


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


@pytest.fixture(scope="module")
def session(committed: Committed) -> SessionContext:
    return datafusion({table: committed.paths(table) for table in TABLES})


@pytest.mark.parametrize("table", TABLES)
def test_parquet_rs_reads_all_rows_and_the_exact_schema(
    committed: Committed, session: SessionContext, table: str
) -> None:
    read = by_datafusion(session, table, "true")
    assert read.schema.equals(committed.rows[table].schema, check_metadata=True)
    assert in_order(table, comparable(read)) == comparable(committed.rows[table])


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_parquet_rs_finds_what_pyarrow_finds(committed: Committed, session: SessionContext, question: Question) -> None:
    rows = committed.rows[question.table]
    expected = comparable(question.by_pyarrow(rows))
    assert 0 < len(expected) < rows.num_rows
    found = by_datafusion(session, question.table, question.sql(rows, "X'{}'"))
    assert in_order(question.table, comparable(found)) == expected


@pytest.mark.parametrize("table", TABLES)
def test_duckdb_reads_all_rows(committed: Committed, table: str) -> None:
    assert in_order(table, comparable(by_duckdb(committed.paths(table), "true"))) == comparable(committed.rows[table])


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_duckdb_finds_what_pyarrow_finds(committed: Committed, question: Question) -> None:
    rows = committed.rows[question.table]
    found = by_duckdb(committed.paths(question.table), question.sql(rows, "from_hex('{}')"))
    assert in_order(question.table, comparable(found)) == comparable(question.by_pyarrow(rows))


def by_duckdb(paths: list[str], predicate: str) -> pa.Table:
    with duckdb.connect() as connection:
        return connection.sql(f"select * from read_parquet(?) where {predicate}", params=[paths]).to_arrow_table()


@pytest.mark.parametrize("table", ["transactions", "logs"])
def test_parquet_rs_skips_row_groups_by_our_statistics(session: SessionContext, table: str) -> None:
    (plan,) = session.sql(f"explain analyze select * from {table} where _block_num = 30").to_pylist()
    pruned = re.search(r"row_groups_pruned_statistics=(\d+) total → (\d+) matched", plan["plan"])
    assert pruned is not None, plan["plan"]
    total, matched = map(int, pruned.groups())
    assert 0 < matched < total


def test_parquet_rs_uses_our_bloom_filters(committed: Committed, tmp_path: Path) -> None:
    """``writer.bloom_filters``: a value that no row has is known from the filter alone."""
    rows = committed.rows["logs"]
    file = TableFile(tmp_path / "logs" / "logs.parquet", "logs", WriterOptions(bloom_filters=True))
    file.write(rows)
    closed = file.close({})
    context = datafusion({"logs": [str(closed.path)]}, pushdown=False)
    absent = bytearray(most_frequent(rows, "address"))
    absent[-1] ^= 1
    assert bytes(absent) not in set(rows["address"].to_pylist())
    query = "explain analyze select * from logs where address = X'{}'"
    (plan,) = context.sql(query.format(absent.hex())).to_pylist()
    assert "row_groups_pruned_bloom_filter=1 total → 0 matched" in plan["plan"], plan["plan"]
    (plan,) = context.sql(query.format(most_frequent(rows, "address").hex())).to_pylist()
    assert "row_groups_pruned_bloom_filter=1 total → 1 matched" in plan["plan"], plan["plan"]


# -- the footer blob as if it were the file (data.md 5.7) -----------------------------------------------------------


def open_blob(folder: Path, blob: bytes, query: str) -> Row:
    """The answer to a query that footers alone can answer, by parquet-rs with the page index enabled."""
    path = folder / "blob.parquet"
    path.write_bytes(blob)
    (answer,) = datafusion({"blob": [str(path)]}).sql(query).to_pylist()
    found: Row = answer
    return found


@pytest.mark.parametrize("table", TABLES)
def test_route_a_holds_every_footer_row_opens_as_if_it_were_the_file(
    committed: Committed, tmp_path: Path, table: str
) -> None:
    query = "select count(*) as rows, min(_block_num) as first, max(_block_num) as last from blob"
    for number, file in enumerate(committed.files[table]):
        folder = tmp_path / str(number)
        folder.mkdir()
        numbers = file.read()["_block_num"].to_pylist()
        assert len(file.footer) < file.size
        assert open_blob(folder, file.footer, query) == {
            "rows": file.row_count,
            "first": min(numbers, default=None),
            "last": max(numbers, default=None),
        }


def test_the_footer_of_a_file_without_rows_opens_too(tmp_path: Path) -> None:
    for table in TABLES:
        (tmp_path / table).mkdir()
        closed = TableFile(tmp_path / f"{table}.parquet", table, WriterOptions()).close({})
        assert open_blob(tmp_path / table, closed.footer, "select count(*) as rows from blob") == {"rows": 0}


@pytest.mark.parametrize("table", TABLES)
def test_the_tail_of_a_file_with_a_page_index_is_refused(committed: Committed, tmp_path: Path, table: str) -> None:
    """Why we write none: its offsets point outside the blob. The whole file is fine, so the index itself is."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "tail").mkdir()
    path = tmp_path / "whole" / "file.parquet"
    pq.write_table(
        committed.rows[table], path, version="2.6", write_page_index=True, use_compliant_nested_type=False
    )  # fmt: skip
    query = "select count(*) as rows from blob"
    whole = datafusion({"blob": [str(path)]}).sql(query).to_pylist()
    assert whole == [{"rows": committed.rows[table].num_rows}]
    with pytest.raises(Exception, match=r"Requested range was invalid|Parquet error"):
        open_blob(tmp_path / "tail", read_footer(path), query)
