"""A dataset as its readers see it, on a real database: which rows come, from which files, and in which types."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pandas
import polars as pl
import psycopg
import pyarrow.compute as pc
import pytest
from psycopg.types.json import Jsonb

import ampd_ray as amp
from ampd_ray.chain.ranges import Span
from ampd_ray.client import Client
from ampd_ray.client.dataset import Dataset
from ampd_ray.client.query import query
from ampd_ray.config import create_directories, load_settings
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.evm.schemas import SCHEMAS, TABLES
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import ExtraMissing, InvalidQuery, InvalidRange, NotFound, NothingThere, ObjectMissing, StoreError
from ampd_ray.metadb import workers
from tests.fakes.tables import U256_MAX, Table
from tests.servers import Server, as_owner

REF = DatasetRef("_", "devnet")
MANIFEST = evm_rpc_manifest("devnet")


def opened(url: str, folder: Path) -> Client:
    """A session in a directory whose name means something to a shell, to SQL and to Hive."""
    settings = load_settings(None, {"AMP_CONFIG_METADATA_DB_URL": url}, solo_dir=folder / "it's [k=1]")
    create_directories(settings)
    client = Client(settings)
    client.register_dataset(REF, MANIFEST)
    return client


@pytest.fixture
def client(pg_url: str, tmp_path: Path) -> Iterator[Client]:
    with opened(pg_url, tmp_path) as client:
        yield client


def filled(client: Client, url: str) -> dict[str, Table]:
    """Blocks 0 to 29 and 40 to 49 in four files a table, a branch that lost, and a file that was never committed."""
    made = {name: Table(client, url, MANIFEST.hash, name) for name in TABLES}
    for table in made.values():
        for start in (0, 10, 20, 40):
            table.add(f"{start}.parquet", start, start + 9, counted=True)
        table.add("lost.parquet", 5, 9, canonical=False)
        table.add("never.parquet", 30, 39, canonical=None)
    return made


@pytest.fixture(scope="module")
def dataset(embedded: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """One that all tests read, and none changes."""
    url = embedded.migrate(embedded.create_database("template0"))
    with opened(url, tmp_path_factory.mktemp("read")) as client:
        filled(client, url)
        yield client.dataset(REF)


ALL = [*range(30), *range(40, 50)]
RANGES = {
    None: ALL,
    "0:50": ALL,
    "5:25": list(range(5, 25)),
    "10:20": list(range(10, 20)),
    "-5:": list(range(45, 50)),
    "-1000:": ALL,
    "28:42": [28, 29, 40, 41],
    "45:": list(range(45, 50)),
    "7": [7],
}
LACKED = {
    "0:50": "30 to 39 of the blocks 0 to 49",
    "28:42": "30 to 39 of the blocks 28 to 41",
    "-1000:": "30 to 39 of the blocks 0 to 49",
}


@pytest.mark.filterwarnings("ignore::ampd_ray.MissingBlocks")
def test_the_rows_of_a_range_come_and_no_others_whoever_asks(dataset: Dataset) -> None:
    for blocks, wanted in RANGES.items():
        for table in TABLES:
            assert dataset.to_arrow(table, ["block_num"], blocks)["block_num"].to_pylist() == wanted, blocks
            assert dataset.scan(table, blocks).count_rows() == len(wanted), blocks
        assert dataset.to_polars("logs", ["block_num"], blocks)["block_num"].to_list() == wanted, blocks
        assert dataset.to_pandas("logs", ["block_num"], blocks)["block_num"].to_list() == wanted, blocks
        found = dataset.sql("select block_num from logs join blocks using (block_num) order by 1", blocks).fetchall()
        assert [number for (number,) in found] == wanted, blocks


def test_a_range_that_is_there_in_part_warns_once_and_where_it_was_asked_for(dataset: Dataset) -> None:
    for blocks, said in LACKED.items():
        for ask, which in (
            (lambda blocks: dataset.files("logs", blocks), "logs lacks"),
            (lambda blocks: dataset.to_polars("blocks", ["block_num"], blocks), "blocks lacks"),
            (lambda blocks: dataset.sql("select 1", blocks), "blocks and transactions and logs lack"),
        ):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                ask(blocks)
            assert [str(each.message) for each in told] == [f"{which} {said}: amp.dataset('_/devnet').coverage()"]
            assert (told[0].category, told[0].filename) == (amp.MissingBlocks, __file__)


def test_the_end_of_what_is_there_lacks_nothing(client: Client, pg_url: str) -> None:
    client.register_dataset(DatasetRef("_", "late"), late := evm_rpc_manifest("devnet", 500))
    for table, last in (("blocks", 599), ("logs", 589)):
        Table(client, pg_url, late.hash, table, dataset="late").add("a.parquet", 500, last)
    found = client.dataset("late")
    for blocks, rows in (("-1000:", 90), ("580:", 10), ("-20:", 10)):
        assert found.to_arrow("logs", ["block_num"], blocks).num_rows == rows
        assert found.sql("select * from logs", blocks).fetchall()[rows - 1 :] != []
    with pytest.warns(amp.MissingBlocks, match="^logs lacks 590 to 599 of the blocks 500 to 599"):
        found.to_duckdb(blocks="500:600")


def test_a_range_of_which_nothing_was_extracted_is_no_empty_table(dataset: Dataset, client: Client) -> None:
    for blocks in ("30:40", "50:", "1000:2000"):
        for ask, which in (
            (lambda blocks: dataset.files("logs", blocks), "logs of _/devnet"),
            (lambda blocks: dataset.scan("logs", blocks), "logs of _/devnet"),
            (lambda blocks: dataset.to_pandas("logs", blocks=blocks), "logs of _/devnet"),
            (lambda blocks: dataset.sql("select 1", blocks), "_/devnet"),
        ):
            with pytest.raises(NothingThere) as error:
                ask(blocks)
            assert str(error.value) == f"{which} has none of the blocks {blocks}; it has 0 to 29, 40 to 49"
    for blocks in ("0:10", "-5:"):
        with pytest.raises(NothingThere, match=f"nothing of logs of _/devnet has been extracted yet, .* no {blocks}$"):
            client.dataset(REF).to_polars("logs", blocks=blocks)
    assert client.dataset(REF).to_polars("logs").height == 0


def test_files_outside_of_a_range_or_a_filter_are_not_opened(client: Client, pg_url: str) -> None:
    tables, dataset = filled(client, pg_url), client.dataset(REF)
    inside, number = dataset.scan("logs", "12:18"), pc.field("block_num")
    everything = dataset.scan("logs")
    con = dataset.to_duckdb(blocks="12:18")
    for table in tables.values():
        for start in (0, 20, 40):
            table.remove(f"{start}.parquet")
    assert inside.count_rows() == 6
    assert con.sql("select count(*) from transactions").fetchall() == [(6,)]
    assert everything.to_table(filter=number == 13)["block_num"].to_pylist() == [13]
    assert everything.to_table(filter=(pc.field("_block_num") >= 10) & (pc.field("_block_num") < 20)).num_rows == 10
    assert everything.filter(number.isin([11, 15])).count_rows() == 2
    with pytest.raises(FileNotFoundError):
        everything.to_table(filter=number >= 13)


def test_a_range_has_the_files_that_touch_it(dataset: Dataset) -> None:
    names = [Path(path).name for path in dataset.files("logs", "19:21")]
    assert names == ["10.parquet", "20.parquet"]
    assert [Path(path).name for path in dataset.files("logs")] == [f"{n}.parquet" for n in (0, 10, 20, 40)]


def test_a_file_of_one_block_is_found_by_its_number(client: Client, pg_url: str) -> None:
    Table(client, pg_url, MANIFEST.hash).add("one.parquet", 7, 7)
    rows = client.dataset(REF).scan("logs")
    assert rows.to_table(filter=pc.field("block_num") == 7)["block_num"].to_pylist() == [7]
    assert rows.to_table(filter=pc.field("block_num") == 8).num_rows == 0


def test_a_handle_means_the_version_that_it_meant_at_first(client: Client, pg_url: str) -> None:
    dataset = client.dataset("devnet")
    Table(client, pg_url, MANIFEST.hash).add("a.parquet", 0, 9)
    client.register_dataset(REF, evm_rpc_manifest("devnet", 7))
    assert (dataset.start_block, client.dataset("devnet").start_block) == (0, 7)
    assert client.dataset(f"_/devnet@{MANIFEST.hash}").to_arrow("logs").num_rows == 10
    assert client.dataset("devnet").to_arrow("logs").num_rows == 0


# -- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_nothing_is_lost_on_the_way_into_a_library(dataset: Dataset, table: str) -> None:
    told = dataset.to_arrow(table, blocks="0:2")
    for name, values in zip(told.column_names, told.columns, strict=True):
        exact = values.to_pylist()
        assert dataset.to_polars(table, [name], "0:2")[name].to_list() == exact, name
        found = dataset.to_pandas(table, [name], "0:2")[name]
        assert [None if value is pandas.NA else value for value in found] == exact, name
        asked = dataset.sql(f'select "{name}" from {table} order by block_num', "0:2").fetchall()
        assert [value for (value,) in asked] == exact, name


def test_what_may_be_null_is_no_float_in_pandas(dataset: Dataset) -> None:
    kinds = dataset.to_pandas("transactions").dtypes
    assert (str(kinds["chain_id"]), str(kinds["nonce"])) == ("UInt64", "uint64")
    assert str(kinds["gas_price"]) == "decimal128(38, 0)[pyarrow]"
    assert str(kinds["timestamp"]) == "datetime64[ns, UTC]"
    assert int(dataset.to_pandas("transactions", ["value"])["value"][0]) == U256_MAX
    assert "address" in str(dataset.to_pandas("transactions", ["access_list"]))  # it can be shown


@pytest.mark.parametrize("table", TABLES)
def test_a_table_without_rows_has_the_types_of_one_with_rows(dataset: Dataset, client: Client, table: str) -> None:
    without = client.dataset(REF)
    assert without.scan(table).schema.equals(SCHEMAS[table])
    assert without.to_polars(table).schema == dataset.to_polars(table).schema
    nothing, something = without.to_pandas(table), dataset.to_pandas(table)
    assert nothing.dtypes.equals(something.dtypes)
    con, empty = dataset.to_duckdb(), without.to_duckdb()
    assert empty.sql(f"describe {table}").fetchall() == con.sql(f"describe {table}").fetchall()


# -- SQL --------------------------------------------------------------------------------------------------------------


def test_tables_join_each_other_and_the_frames_of_the_caller(dataset: Dataset) -> None:
    labels = pl.DataFrame({"block_num": [3, 4], "label": ["a", "b"]})
    told = dataset.sql(
        "select label, tx_index from labels join blocks using (block_num) join transactions using (block_num) "
        "order by label"
    )
    assert told.fetchall() == [("a", 3), ("b", 4)]
    assert labels.height == 2


def test_bytes_are_written_and_read_as_0x(dataset: Dataset) -> None:
    address = "0x" + "00" * 19 + "07"
    query = f"select to_0x(address), block_num from logs where address = from_0x('{address.upper()}')"
    assert dataset.sql(query).fetchall() == [(address, 7)]


def test_a_query_of_strangers_reads_the_data_and_nothing_else(dataset: Dataset, tmp_path: Path) -> None:
    client, other = dataset._client, tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    _, batches = query(client, "select count(*) as n from logs")
    assert [row for batch in batches for row in batch.to_pylist()] == [{"n": 40}]
    with pytest.raises(InvalidQuery, match="Cannot access file"):
        query(client, f"select * from '{other}'")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("selct 1", r'^Parser Error: syntax error at or near "selct"$'),
        ("select * from traces", "^Catalog Error: Table with name traces does not exist!"),
        ("drop table logs", "^only a select is run here, and this is a drop: nothing is changed$"),
        ("", "^expected one select, found no statements$"),
    ],
)
def test_wrong_sql_is_an_error_of_ours(dataset: Dataset, query: str, said: str) -> None:
    with pytest.raises(InvalidQuery, match=said):
        dataset.sql(query)


def test_sql_over_a_file_that_is_gone_is_an_error_of_ours(client: Client, pg_url: str) -> None:
    Path(Table(client, pg_url, MANIFEST.hash, "logs").add("a.parquet", 0, 9)).unlink()
    with pytest.raises(StoreError, match=r"a\.parquet.*see `ampd check`"):
        client.dataset(REF).sql("select * from logs")


def test_a_connection_of_ones_own_keeps_what_it_has_and_is_brought_up_to_date(client: Client, pg_url: str) -> None:
    dataset, logs = client.dataset(REF), Table(client, pg_url, MANIFEST.hash)
    logs.add("a.parquet", 0, 9)
    con = duckdb.connect()
    con.execute("create table mine as select 1 as one")
    assert dataset.to_duckdb(con) is con
    logs.add("new.parquet", 10, 14)
    assert con.sql("select count(*) from logs, mine").fetchall() == [(10,)]
    dataset.to_duckdb(con)
    assert con.sql("select count(*) from logs, mine").fetchall() == [(15,)]


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 5, 15, 100])
def test_head_and_tail_are_the_ends_in_block_order(dataset: Dataset, rows: int) -> None:
    first, last = dataset.head("logs", rows, ["block_num"]), dataset.head("logs", rows, ["tx_index"], tail=True)
    assert first["block_num"].to_pylist() == ALL[:rows]
    assert last["tx_index"].to_pylist() == ALL[-rows:]
    assert dataset.head("logs", rows, tail=True).schema.equals(SCHEMAS["logs"])


def test_the_ends_of_nothing_are_nothing(client: Client) -> None:
    for tail in (False, True):
        found = client.dataset("devnet").head("blocks", 3, tail=tail)
        assert (found.num_rows, found.schema) == (0, SCHEMAS["blocks"])


# -- what it says of itself -------------------------------------------------------------------------------------------


def test_what_does_not_exist_is_named(dataset: Dataset) -> None:
    with pytest.raises(NotFound, match=r"'traces'.*_/devnet are blocks, transactions, logs"):
        dataset.scan("traces")
    with pytest.raises(NotFound, match=r"no column nope; its columns are _block_num, block_hash"):
        dataset.to_polars("logs", ["nope"])
    with pytest.raises(InvalidRange, match="the end 5 lies before"):
        dataset.files("logs", "10:5")


def test_a_file_that_is_gone_is_an_error_of_ours(client: Client, pg_url: str) -> None:
    path = Path(Table(client, pg_url, MANIFEST.hash, "logs").add("a.parquet", 0, 9))
    path.unlink()
    found = client.dataset(REF)
    for read in (found.to_arrow, found.to_polars, found.to_pandas, found.head):
        with pytest.raises(ObjectMissing, match=re.escape(str(path))):
            read("logs")


@pytest.mark.parametrize("library", ["duckdb", "polars", "pandas"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    dataset: Dataset, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("ampd_ray.client.frames.import_module", missing)
    ask: dict[str, Callable[[str], object]] = {
        "duckdb": dataset.sql, "polars": dataset.to_polars, "pandas": dataset.to_pandas
    }  # fmt: skip
    with pytest.raises(ExtraMissing, match=rf"{library}: pip install 'ampd-ray\[notebook\]'"):
        ask[library]("logs")


def test_it_tells_its_tables_with_rows_files_and_blocks(dataset: Dataset) -> None:
    assert (dataset.name, dataset.network, dataset.tables) == ("_/devnet", "devnet", TABLES)
    assert repr(dataset) == "<Dataset _/devnet>"
    lines = str(dataset).splitlines()
    assert lines[0] == "_/devnet on devnet"
    assert [line.split()[:3] for line in lines[-3:]] == [[table, "40", "4"] for table in TABLES]
    assert all(line.endswith("0 to 29, 40 to 49") for line in lines[-3:])
    html = dataset._repr_html_()
    assert "<svg" in html
    assert html.count(">0 to 29, 40 to 49</td>") == 3


# -- coverage ---------------------------------------------------------------------------------------------------------


def set_aside(pg_url: str, *blocks: int, manifest_hash: str = MANIFEST.hash) -> None:
    with psycopg.connect(as_owner(pg_url)) as session:
        for block in blocks:
            session.execute(
                "insert into ampd_ray.quarantine (location_group, block, reason, provider) values (%s, %s, 'x', 'p')",
                [f"_/devnet@{manifest_hash}", block],
            )


def test_coverage_is_by_block_and_table(client: Client, pg_url: str) -> None:
    logs, blocks = (Table(client, pg_url, MANIFEST.hash, name) for name in ("logs", "blocks"))
    logs.add("a.parquet", 0, 9, verified="roots")
    logs.add("b.parquet", 10, 19, verified="none")
    logs.add("c.parquet", 20, 22, verified="partial")
    logs.add("d.parquet", 24, 29, verified="full")
    logs.add("lost.parquet", 40, 49, canonical=False)
    blocks.add("a.parquet", 0, 9)
    set_aside(pg_url, 23, 12, 35)
    set_aside(pg_url, 31, manifest_hash="f" * 64)
    found = client.dataset("devnet").coverage("5:40")
    assert list(found.tables) == ["blocks", "logs"]
    of_logs = found.tables["logs"]
    assert (found.start, found.end) == (5, 39)
    assert of_logs.covered == [Span(5, 22), Span(24, 29)]
    assert of_logs.unverified == [Span(10, 22)]
    assert of_logs.quarantined == [Span(23, 23), Span(35, 35)]  # 12 is there by now
    assert of_logs.missing == [Span(30, 34), Span(36, 39)]
    assert of_logs.blocks == 24
    assert found.tables["blocks"].covered == found.tables["blocks"].unverified == [Span(5, 9)]
    assert found.tables["blocks"].quarantined == [Span(12, 12), Span(23, 23), Span(35, 35)]
    assert client.dataset("devnet").coverage("-5:").tables["logs"].covered == [Span(25, 29)]


def test_coverage_of_nothing_is_nothing(client: Client) -> None:
    dataset = client.dataset("devnet")
    found = dataset.coverage()
    assert (found.start, found.end, list(found.tables), dataset.job()) == (0, -1, list(TABLES), None)
    assert str(found) == "_/devnet on devnet: no block from 0 on is there or asked for yet"
    assert dataset.coverage("0:5").tables["logs"].missing == (Span(0, 4),)


def test_coverage_reaches_to_what_is_there_or_was_asked_for(client: Client, pg_url: str) -> None:
    dataset = client.dataset(REF)
    Table(client, pg_url, MANIFEST.hash).add("a.parquet", 0, 49)

    async def register() -> None:
        async with client.db.connection() as conn:
            await workers.register(conn, "one", {})

    client.run(register())
    assert dataset.coverage().end == 49
    job = client.deploy(JobDescriptor.of(REF, MANIFEST.hash, end_block="99"))
    mine = dataset.job()
    assert mine is not None
    assert mine.id == job.id
    asked = (("99", None, 99), ("latest", 77, 77), ("-5", None, 49), (None, 77, 49), ("20", None, 49))
    for end, resolved, last in asked:
        with psycopg.connect(as_owner(pg_url)) as session:
            session.execute("update job_events set detail = detail || %s", [Jsonb({"end_block": end})])
            session.execute("delete from ampd_ray.job_state")
            session.execute("insert into ampd_ray.job_state (job_id, resolved_end) values (%s, %s)", [job.id, resolved])
        found = dataset.coverage()
        assert (found.start, found.end) == (0, last), end


def test_coverage_starts_where_the_dataset_does(client: Client, pg_url: str) -> None:
    later = evm_rpc_manifest("devnet", 20)
    client.register_dataset(REF, later)
    Table(client, pg_url, later.hash).add("a.parquet", 25, 29)
    found = client.dataset("devnet").coverage()
    assert (found.start, found.end, found.tables["logs"].missing) == (20, 29, [Span(20, 24)])


def test_coverage_of_a_hundred_thousand_files_is_merged_by_the_database(client: Client, pg_url: str) -> None:
    logs = Table(client, pg_url, MANIFEST.hash)
    with psycopg.connect(as_owner(pg_url)) as session:
        session.execute("alter table ampd_ray.segment drop constraint if exists segment_no_overlap")
        session.execute(
            "insert into ampd_ray.segment (file_id, location_id, network, blocks, start_parent, end_hash, canonical) "
            "select n, %s, 'devnet', int8range(10 * n, 10 * n + 10), '', '', true from generate_series(0, 99999) n",
            [logs.revision.location_id],
        )
    found = client.dataset("devnet").coverage().tables["logs"]
    assert (found.covered, found.missing) == ([Span(0, 999_999)], [])


# -- in the current session, and awaited ------------------------------------------------------------------------------


async def test_the_current_session_has_it_and_event_loops_await_it(pg_url: str, tmp_path: Path) -> None:
    directories = {f"{name}_dir": tmp_path / name for name in ("data", "providers", "manifests")}
    for path in directories.values():
        path.mkdir()
    with amp.connect(pg_url, **directories) as client:
        client.register_dataset(REF, MANIFEST)
        Table(client, pg_url, MANIFEST.hash).add("a.parquet", 0, 9, counted=True)
        plain, awaited = amp.dataset("_/devnet"), await amp.aio.dataset("_/devnet")
        assert isinstance(plain, amp.Dataset)
        assert (awaited.name, awaited.ref, await awaited.tables()) == ("_/devnet", plain.ref, plain.tables)
        assert await awaited.coverage("0:20") == plain.coverage("0:20")
        assert isinstance(plain.coverage(), amp.Coverage)
        assert await awaited.summary() == plain.summary()
        assert await awaited.files(blocks="3") == plain.files()
        assert (await awaited.scan(blocks="3:5")).count_rows() == 2
        assert (await awaited.to_arrow(columns=["block_num"], blocks="3")).to_pylist() == [{"block_num": 3}]
        assert (await awaited.head(rows=3, tail=True)).equals(plain.head(rows=3, tail=True))
        assert (await awaited.to_polars(blocks="3:5")).equals(plain.to_polars(blocks="3:5"))
        assert (await awaited.to_pandas(blocks="3:5")).equals(plain.to_pandas(blocks="3:5"))
        for con in (await awaited.to_duckdb(blocks="3:5"), await awaited.to_duckdb(duckdb.connect(), "3:5")):
            assert con.sql("select count(*) from logs").fetchall() == [(2,)]
        assert (await awaited.sql("select count(*) from logs")).fetchall() == [(10,)]
