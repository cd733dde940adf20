"""Committed files in the hands of strangers: parquet-rs (DataFusion), on which Amp's server is built, and DuckDB.

Real mainnet and test chain blocks, of every type and repeated to some thousand rows, are extracted by ``ampd
backfill`` with small row groups. Each reader answers the same questions with the same rows as pyarrow.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionContext

from ampd_ray.materialize.encode import TableFile, read_footer
from ampd_ray.materialize.types import WriterOptions
from tests.committed import CommittedFile
from tests.end_to_end.extraction import Source, by_backfill
from tests.end_to_end.readers import (
    QUESTIONS,
    TABLES,
    Question,
    by_datafusion,
    by_duckdb,
    datafusion,
    in_order,
    most_frequent,
)
from tests.fakes.replay import replay
from tests.reference import Row, comparable, read_set

pytestmark = pytest.mark.timeout(300)  # the first test waits for the extraction

BLOCKS = 300
SETS = ("testchain-execution-apis", "mainnet-forks", "rpc-mainnet")


@dataclass(frozen=True)
class Committed:
    """The files of one extraction, and all rows of each table as pyarrow reads them."""

    files: dict[str, list[CommittedFile]]
    rows: dict[str, pa.Table]

    def paths(self, table: str) -> list[str]:
        return [str(file.path) for file in self.files[table]]


@pytest.fixture(scope="module")
def committed(chain_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Committed:
    """300 blocks with thousands of transactions and logs, in two segments and several row groups."""
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
    assert max(pq.read_metadata(file.path).num_row_groups for file in files["logs"]) >= 2
    return Committed(files, rows)


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


@pytest.mark.parametrize("table", ["transactions", "logs"])
def test_parquet_rs_skips_files_or_row_groups_by_our_statistics(session: SessionContext, table: str) -> None:
    """How many row groups a file has depends on how its extracts came."""
    (plan,) = session.sql(f"explain analyze select * from {table} where _block_num = 30").to_pylist()
    pruned = re.findall(r"(?:files_ranges|row_groups)_pruned_statistics=(\d+) total → (\d+) matched", plan["plan"])
    assert len(pruned) == 2, plan["plan"]
    assert any(0 < int(matched) < int(total) for total, matched in pruned), plan["plan"]


def test_parquet_rs_uses_our_bloom_filters(committed: Committed, tmp_path: Path) -> None:
    """``writer.bloom_filters``: a value that no row has is known from the filter alone."""
    rows = committed.rows["logs"]
    file = TableFile(tmp_path / "logs.parquet", "logs", WriterOptions(bloom_filters=True))
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
