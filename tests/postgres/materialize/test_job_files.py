"""What is in the files and in their rows (``spec/data.md`` 5.1 to 5.7)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.materialize.encode import DICTIONARY_COLUMNS
from ampd_ray.materialize.types import WriterOptions
from tests.fakes.bench import Bench

FILES = (
    "select f.id, f.location_id, f.file_name, f.metadata, f.object_size, f.object_e_tag, f.object_version, f.url,"
    " f.metadata ->> 'table' as name, c.footer, s.row_count, s.sha256, s.epoch, s.verified, s.canonical,"
    " s.start_parent, s.end_hash"
    " from file_metadata f left join footer_cache c on c.file_id = f.id"
    " left join ampd_ray.segment s on s.file_id = f.id order by f.id"
)


@pytest.fixture
async def committed(bench: Bench) -> list[tuple[Any, Path]]:
    """The row and the path of each of six files: blocks 0 to 99 and 100 to 130 of the three tables."""
    bench.options = WriterOptions(segment_blocks=100)
    await bench.complete(end_block="130")
    rows = await bench.query(FILES)
    paths = {key: path for table in TABLES for key, path in (await bench.paths(table)).items()}
    assert [row.name for row in rows] == [*TABLES, *TABLES]
    return [(row, paths[row.id]) for row in rows]


def footer_of(path: Path) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = pq.read_metadata(path).metadata
    return found


def test_the_footer_says_what_the_row_says(committed: list[tuple[Any, Path]]) -> None:
    for row, path in committed:
        footer = footer_of(path)
        assert set(footer) == {b"nozzle_metadata", b"parent_file_ids", b"generation", b"ARROW:schema"}
        assert json.loads(footer[b"nozzle_metadata"]) == row.metadata
        assert (footer[b"parent_file_ids"], footer[b"generation"]) == (b"[]", b"0")


def test_the_metadata_describe_one_range_of_the_chain(committed: list[tuple[Any, Path]], bench: Bench) -> None:
    chain = bench.devnet.chain
    for (row, _), (start, end) in zip(committed, [(0, 99)] * 3 + [(100, 130)] * 3, strict=True):
        last, before = chain.block(end), chain.block(start - 1)
        assert last is not None
        parent = before.hash if before else bytes(32)
        assert set(row.metadata) == {"table", "filename", "created_at", "ranges"}
        assert row.metadata["filename"] == row.file_name
        assert row.metadata["ranges"] == [
            {
                "numbers": {"start": start, "end": end},
                "network": "devnet",
                "hash": "0x" + last.hash.hex(),
                "prev_hash": "0x" + parent.hex(),
                "timestamp": last.timestamp,
            }
        ]
        assert (row.start_parent, row.end_hash) == (parent, last.hash)


def test_names_and_urls_are_those_that_amp_expects(committed: list[tuple[Any, Path]], bench: Bench) -> None:
    names = [row.file_name for row, _ in committed]
    assert all(re.fullmatch(r"(000000000|000000100)-[0-9a-f]{16}\.parquet", name) for name in names)
    assert len(set(names)) == 6  # unique over all tables, as the queue of deletions needs them
    for row, path in committed:
        assert row.url == path.parent.as_uri() + "/"
        assert path.parent.parent == bench.root / "data" / "_" / "devnet" / row.name
        assert str(UUID(path.parent.name)) == path.parent.name
        assert UUID(path.parent.name).version == 7


def test_sizes_tags_and_checksums_are_those_of_the_object(committed: list[tuple[Any, Path]]) -> None:
    for row, path in committed:
        status = path.stat()
        assert row.object_size == status.st_size
        assert row.object_e_tag == f"{status.st_ino:x}-{status.st_mtime_ns // 1000:x}-{status.st_size:x}"
        assert row.object_version is None
        assert row.sha256 == hashlib.sha256(path.read_bytes()).digest()
        assert (row.canonical, row.verified, row.epoch) == (True, "none", 1)


def test_the_footer_blob_opens_as_if_it_were_the_file(committed: list[tuple[Any, Path]]) -> None:
    for row, path in committed:
        size = int.from_bytes(path.read_bytes()[-8:-4], "little") + 8
        assert row.footer == path.read_bytes()[-size:]
        blob = pq.read_metadata(pa.BufferReader(row.footer))
        assert blob.equals(pq.read_metadata(path))
        assert blob.num_rows == row.row_count == pq.read_table(path).num_rows


def test_the_schema_is_exactly_that_of_the_table(committed: list[tuple[Any, Path]]) -> None:
    for row, path in committed:
        assert pq.read_schema(path).remove_metadata().equals(SCHEMAS[row.name], check_metadata=True)
        assert pq.read_table(path).schema.metadata is None
        embedded = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(footer_of(path)[b"ARROW:schema"])))
        assert embedded.equals(SCHEMAS[row.name], check_metadata=True)
        assert embedded.metadata is None


def test_nullability_and_list_children_are_on_disk(committed: list[tuple[Any, Path]]) -> None:
    for row, path in committed:
        schema = pq.read_metadata(path).schema
        leaves = [schema.column(i) for i in range(len(schema))]
        for leaf in leaves:
            if leaf.max_repetition_level == 0:
                assert (leaf.max_definition_level == 0) == (not SCHEMAS[row.name].field(leaf.path).nullable), leaf.path
        nested = {leaf.path for leaf in leaves if leaf.max_repetition_level}
        lists = {
            "access_list.list.item.address",
            "access_list.list.item.storage_keys.list.item",
            "blob_versioned_hashes.list.item",
            *(f"authorization_list.list.item.{f}" for f in ("chain_id", "address", "nonce", "y_parity", "r", "s")),
        }
        assert nested == (lists if row.name == "transactions" else set())


def test_types_on_disk_are_those_of_the_specification(committed: list[tuple[Any, Path]]) -> None:
    for row, path in committed:
        schema = pq.read_metadata(path).schema
        kinds = {schema.column(i).path: schema.column(i) for i in range(len(schema))}
        stamp = kinds["timestamp"]
        assert json.loads(stamp.logical_type.to_json())["timeUnit"] == "nanoseconds"
        assert json.loads(stamp.logical_type.to_json())["isAdjustedToUTC"] is True
        assert (kinds["_block_num"].physical_type, str(kinds["_block_num"].logical_type)) == (
            "INT64",
            "Int(bitWidth=64, isSigned=false)",
        )
        if row.name == "transactions":
            assert kinds["tx_index"].physical_type == "INT32"
            assert kinds["value"].logical_type.type == "STRING"
            assert (kinds["gas_price"].physical_type, kinds["gas_price"].length) == ("FIXED_LEN_BYTE_ARRAY", 16)


def test_columns_are_compressed_counted_and_without_page_index(committed: list[tuple[Any, Path]]) -> None:
    for row, path in committed:
        file = pq.read_metadata(path)
        assert file.format_version == "2.6"
        for group in range(file.num_row_groups):
            for at in range(file.num_columns):
                column = file.row_group(group).column(at)
                assert column.compression == "ZSTD"
                assert not column.has_column_index
                assert not column.has_offset_index
                assert column.has_dictionary_page == (column.path_in_schema in DICTIONARY_COLUMNS[row.name])
                assert column.is_stats_set or column.path_in_schema.startswith(("access_list", "auth", "blob_v"))


async def test_files_are_newer_than_those_before_by_the_clock_of_the_database(
    committed: list[tuple[Any, Path]], bench: Bench
) -> None:
    stamps = [row.metadata["created_at"] for row, _ in committed]
    created = [stamp["secs"] * 10**9 + stamp["nanos"] for stamp in stamps]
    assert created[0] == created[1] == created[2] < created[3] == created[4] == created[5]
    (now,) = await bench.query("select extract(epoch from now())::bigint as secs, version() as server")
    assert abs(now.secs - stamps[0]["secs"]) < 60
    assert abs(datetime.now(UTC).timestamp() - now.secs) < 60


async def test_a_file_is_newer_than_files_from_the_future(bench: Bench) -> None:
    """Whoever wrote them had a wrong clock: what comes later must supersede them all the same."""
    await bench.complete(end_block="50", tables=("blocks",))
    assert await bench.execute(
        "update file_metadata set metadata = jsonb_set(metadata, '{created_at,secs}', '4000000000')"
    )
    await bench.complete(end_block="60", tables=("blocks",))
    old, new = await bench.segments()
    assert old.created_ns // 10**9 == 4_000_000_000
    assert new.created_ns > old.created_ns


async def test_nothing_but_registered_files_is_left(committed: list[tuple[Any, Path]], bench: Bench) -> None:
    assert bench.staged() == []
    assert await bench.objects() == {path for _, path in committed}
    assert (bench.root / "data" / ".ampd-ray-staging").is_dir()  # beside the revisions, not in one


async def test_tables_and_revisions_are_registered(committed: list[tuple[Any, Path]], bench: Bench) -> None:
    rows = await bench.query(
        "select t.table_name, t.dataset_namespace, t.dataset_name, t.manifest_hash, r.id, r.path, r.writer, r.metadata"
        " from physical_tables t join physical_table_revisions r on r.id = t.active_revision_id"
    )
    (job,) = await bench.query("select id from jobs")
    assert {row.table_name for row in rows} == set(TABLES)
    for row in rows:
        assert (row.dataset_namespace, row.dataset_name, row.manifest_hash) == ("_", "devnet", bench.manifest.hash)
        assert row.writer == job.id
        assert row.metadata == {
            "dataset_namespace": "_",
            "dataset_name": "devnet",
            "manifest_hash": bench.manifest.hash,
            "table_name": row.table_name,
        }
        assert {file.location_id for file, _ in committed if file.name == row.table_name} == {row.id}
