"""A dataset whose files are in an object store: its readers see what those of a directory see, and ask for little."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.client import Client
from ampd_ray.client.dataset import Dataset
from ampd_ray.client.query import query
from ampd_ray.client.summary import committed, rows_within
from ampd_ray.config import load_settings
from ampd_ray.config.directories import DIRECTORIES
from ampd_ray.datasets.evm.schemas import SCHEMAS, TABLES
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import InvalidQuery, ObjectMissing, StoreError
from ampd_ray.store.files import open_store
from tests.fakes.faulty_s3 import Asked, Fault, FaultyS3, faulty_s3
from tests.fakes.object_stores import S3Server, environment
from tests.fakes.tables import Table
from tests.servers import Server

REF = DatasetRef("_", "devnet")
MANIFEST = evm_rpc_manifest("devnet")
STARTS = (0, 10, 20, 40)
ALL = [*range(30), *range(40, 50)]

pytestmark = pytest.mark.filterwarnings("ignore::ampd_ray.MissingBlocks")


@pytest.fixture(scope="module")
def proxy(moto: S3Server) -> Iterator[FaultyS3]:
    with faulty_s3(moto.endpoint) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(proxy.url).items():
            patch.setenv(name, value)
        yield proxy


@pytest.fixture(scope="module")
def url(embedded: Server) -> str:
    return embedded.migrate(embedded.create_database("template0"))


def opened(url: str, prefix: str, ref: DatasetRef) -> Client:
    """A session with everything below a prefix."""
    keys = {key.upper(): f"s3://blocks/{prefix}/{name}" for key, name in DIRECTORIES.items()}
    env = {f"AMP_CONFIG_{key}": place for key, place in keys.items()} | {"AMP_CONFIG_METADATA_DB_URL": url}
    client = Client(load_settings(None, env))
    client.register_dataset(ref, MANIFEST)
    return client


@pytest.fixture(scope="module")
def dataset(proxy: FaultyS3, url: str) -> Iterator[Dataset]:
    """One that no test changes: blocks 0 to 29 and 40 to 49, a branch that lost, and a file of nobody's.

    The prefix means something to a shell, to SQL, to URLs and to Hive.
    """
    with opened(url, "it's mine/[k=1]", REF) as client:
        for name in TABLES:
            table = Table(client, url, MANIFEST.hash, name)
            for start in STARTS:
                table.add(f"{start}.parquet", start, start + 9, counted=True)
            table.add("lost.parquet", 5, 9, canonical=False)
            table.add("never.parquet", 30, 39, canonical=None)
        yield client.dataset(REF)


@pytest.fixture
def logs(proxy: FaultyS3, url: str, tmp_path: Path) -> Iterator[tuple[Dataset, Table]]:
    """A table of one file, to harm."""
    ref = DatasetRef("_", tmp_path.name.lower())
    with opened(url, tmp_path.name, ref) as client:
        table = Table(client, url, MANIFEST.hash, dataset=ref.name)
        table.add("a.parquet", 0, 9)
        yield client.dataset(ref), table


@pytest.fixture
def asked(proxy: FaultyS3) -> Iterator[list[Asked]]:
    """The requests of a test."""
    seen: list[Asked] = []

    def see(one: Asked) -> None:
        seen.append(one)

    proxy.chosen = see
    yield seen
    proxy.chosen = lambda _: None


@pytest.mark.parametrize("blocks", [None, "5:25", "28:42", "-5:"])
def test_the_rows_of_a_range_come_and_no_others_whoever_asks(dataset: Dataset, blocks: str | None) -> None:
    wanted = {None: ALL, "5:25": list(range(5, 25)), "28:42": [28, 29, 40, 41], "-5:": list(range(45, 50))}[blocks]
    assert dataset.to_arrow("logs", ["block_num"], blocks)["block_num"].to_pylist() == wanted
    assert dataset.scan("blocks", blocks).count_rows() == len(wanted)
    assert dataset.to_polars("logs", ["block_num"], blocks)["block_num"].to_list() == wanted
    found = dataset.sql("select block_num from logs join blocks using (block_num) order by 1", blocks).fetchall()
    assert [number for (number,) in found] == wanted


@pytest.mark.parametrize("table", TABLES)
def test_duckdb_gives_the_same_values_as_arrow(dataset: Dataset, table: str) -> None:
    told, con = dataset.to_arrow(table, blocks="0:2"), dataset.to_duckdb(blocks="0:2")
    assert told.schema.equals(SCHEMAS[table])
    for name, values in zip(told.column_names, told.columns, strict=True):
        found = con.sql(f'select "{name}" from {table} order by block_num').fetchall()
        assert [value for (value,) in found] == values.to_pylist(), name


def test_the_ends_are_read(dataset: Dataset) -> None:
    assert dataset.head("logs", 3, ["block_num"])["block_num"].to_pylist() == [0, 1, 2]
    assert dataset.head("logs", 15, ["block_num"], tail=True)["block_num"].to_pylist() == ALL[-15:]


def test_files_are_urls(dataset: Dataset) -> None:
    first, *_ = urls = dataset.files("logs", "19:21")
    assert [url.rpartition("/")[2] for url in urls] == ["10.parquet", "20.parquet"]
    store = open_store(dataset._client.settings.data_dir)
    path = store.path_of(first)
    assert path is not None
    assert store.read(path).startswith(b"PAR1")


def test_rows_of_files_that_reach_out_of_a_range_are_counted(dataset: Dataset) -> None:
    client, span = dataset._client, Span(5, 24)
    found = client.run(committed(client.db, REF, span))
    rows = client.run(rows_within(client.db, open_store(client.settings.data_dir), found, span, TABLES))
    assert rows == dict.fromkeys(TABLES, 20)


def test_what_a_range_or_a_filter_excludes_is_not_asked_for(dataset: Dataset, asked: list[Asked]) -> None:
    assert dataset.scan("logs").to_table(filter=pc.field("block_num") == 13)["block_num"].to_pylist() == [13]
    assert dataset.sql("select count(*) from transactions", "12:18").fetchall() == [(6,)]
    assert asked != []
    assert {one.path.partition("?")[0].rpartition("/")[2] for one in asked} == {"10.parquet"}  # and nothing is listed
    assert {one.method for one in asked} <= {"GET", "HEAD"}


def test_a_query_of_strangers_reads_the_data_and_nothing_else(dataset: Dataset, tmp_path: Path) -> None:
    client, other = dataset._client, tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    open_store("s3://blocks/other").write("other.csv", b"a,b\n1,2\n")
    _, batches = query(client, "select count(*) as n from logs join devnet.blocks using (block_num)")
    assert [row for batch in batches for row in batch.to_pylist()] == [{"n": 40}]
    for place in (other, "s3://blocks/other/other.csv", "ampd+s3://blocks/other/other.csv"):
        with pytest.raises(InvalidQuery, match="Cannot access file"):
            query(client, f"select * from read_csv('{place}')")


def test_a_connection_of_ones_own_reads_several_stores_and_is_brought_up_to_date(
    dataset: Dataset, logs: tuple[Dataset, Table]
) -> None:
    other, table = logs
    con = dataset.to_duckdb(duckdb.connect(), schema="one")
    elsewhere = threading.Thread(target=other.to_duckdb, args=[con])
    elsewhere.start()
    elsewhere.join()
    table.add("b.parquet", 10, 14)
    assert con.sql("select count(*) from logs join one.logs using (block_num)").fetchall() == [(10,)]
    other.to_duckdb(con)
    assert con.sql("select count(*) from logs join one.logs using (block_num)").fetchall() == [(15,)]


def test_a_file_that_is_gone_is_an_error_of_ours(logs: tuple[Dataset, Table]) -> None:
    dataset, table = logs
    con = dataset.to_duckdb()
    table.remove("a.parquet")
    for read in (dataset.to_arrow, dataset.to_polars, dataset.head):
        with pytest.raises(ObjectMissing, match=r"a\.parquet.*see `ampd check`"):
            read("logs")
    with pytest.raises(StoreError, match=r"^s3://\S*/a\.parquet does not exist"):
        dataset.sql("select * from logs").fetchall()
    with pytest.raises(duckdb.Error, match=r"a\.parquet"):
        con.sql("select * from logs").fetchall()


def test_a_store_that_refuses_is_an_error_of_ours(logs: tuple[Dataset, Table], proxy: FaultyS3) -> None:
    dataset, _ = logs
    proxy.chosen = lambda asked: Fault.DENIED
    try:
        for read in (dataset.to_arrow, dataset.head):
            with pytest.raises(StoreError, match="access is denied"):
                read("logs")
        with pytest.raises(StoreError, match="access is denied"):
            dataset.sql("select * from logs")
        with pytest.raises(StoreError, match="access is denied"):
            query(dataset._client, "select * from logs", dataset.ref)
    finally:
        proxy.chosen = lambda _: None


def test_answers_that_are_cut_in_their_middle_are_asked_for_again(logs: tuple[Dataset, Table], proxy: FaultyS3) -> None:
    dataset, _ = logs
    before = proxy.fired[Fault.HALF_ANSWER]
    proxy.chosen = lambda asked: Fault.HALF_ANSWER if asked.method == "GET" and not asked.before else None
    try:
        assert dataset.to_arrow("logs", ["block_num"])["block_num"].to_pylist() == list(range(10))
    finally:
        proxy.chosen = lambda _: None
    assert proxy.fired[Fault.HALF_ANSWER] > before
