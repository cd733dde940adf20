"""One table of one segment as a Parquet file: properties that a whole job does not show, and failing disks."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.devnet.chain import DevChain
from ampd_ray.errors import StoreError, StoreFull
from ampd_ray.materialize import encode
from ampd_ray.materialize.encode import TableFile, footer_metadata, read_footer
from ampd_ray.materialize.types import WriterOptions
from tests.fakes.chains import answers

METADATA = {"nozzle_metadata": "{}", "parent_file_ids": "[]", "generation": "0"}


@pytest.fixture(scope="module")
def rows() -> dict[str, pa.Table]:
    """The rows of blocks 0 to 40 of a devnet."""
    chain = DevChain()
    chain.mine(40)
    return decode(answers(chain, Span(0, 40)), "devnet")


def written(path: Path, table: str, parts: Sequence[pa.Table], options: WriterOptions) -> pq.FileMetaData:
    file = TableFile(path, table, options)
    for part in parts:
        file.write(part)
    closed = file.close(METADATA)
    assert closed.rows == sum(part.num_rows for part in parts)
    assert closed.footer == read_footer(path)
    content = path.read_bytes()
    assert (closed.size, closed.sha256) == (len(content), hashlib.sha256(content).digest())
    return pq.read_metadata(path)


@pytest.mark.parametrize("table", TABLES)
def test_rows_come_back_as_they_went_in(tmp_path: Path, rows: dict[str, pa.Table], table: str) -> None:
    half = rows[table].num_rows // 2
    written(tmp_path / "file", table, [rows[table].slice(0, half), rows[table].slice(half)], WriterOptions())
    found = pq.read_table(tmp_path / "file")
    assert found.equals(rows[table])
    assert found.schema.equals(SCHEMAS[table], check_metadata=True)


@pytest.mark.parametrize("table", TABLES)
def test_a_file_may_be_without_rows(tmp_path: Path, rows: dict[str, pa.Table], table: str) -> None:
    footer = written(tmp_path / "file", table, [rows[table].slice(0, 0)], WriterOptions())
    assert footer.num_rows == 0
    assert pq.read_table(tmp_path / "file").schema.equals(SCHEMAS[table], check_metadata=True)


def test_row_groups_end_by_memory(tmp_path: Path, rows: dict[str, pa.Table]) -> None:
    whole = rows["transactions"]
    parts = [whole.slice(at, 10) for at in range(0, whole.num_rows, 10)]
    footer = written(tmp_path / "file", "transactions", parts, WriterOptions(row_group_bytes=whole.nbytes // 4))
    assert 3 <= footer.num_row_groups <= 5
    assert pq.read_table(tmp_path / "file").equals(whole)


# -- rows that wait for a row group -----------------------------------------------------------------------------------


class Store:
    """Memory of its own that holds a table, as the object store does. ``freed()`` once nothing refers to it."""

    def __init__(self, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        memory = np.frombuffer(sink.getvalue(), np.uint8).copy()
        self.table = pa.ipc.open_stream(pa.py_buffer(memory)).read_all()
        self._memory = weakref.ref(memory)

    def freed(self) -> bool:
        gc.collect()
        return self._memory() is None


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("part", [slice(None), slice(3, 5), slice(0)], ids=["all", "some", "none"])
def test_few_rows_do_not_hold_the_memory_that_they_came_in(
    tmp_path: Path, rows: dict[str, pa.Table], table: str, part: slice
) -> None:
    store = Store(rows[table])
    file = TableFile(tmp_path / "file", table, WriterOptions())
    file.write(store.table[part])
    assert not store.freed()
    del store.table
    assert store.freed()
    (waiting,) = file._pending
    assert waiting.get_total_buffer_size() <= 2 * waiting.nbytes + 64 * 64  # nor more than their own
    file.close(METADATA)
    assert pq.read_table(tmp_path / "file").equals(rows[table][part])


def test_many_rows_are_not_copied(tmp_path: Path, rows: dict[str, pa.Table], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "COPIED_BYTES", rows["logs"].nbytes)
    store = Store(rows["logs"])
    file = TableFile(tmp_path / "file", "logs", WriterOptions())
    file.write(store.table)
    del store.table
    assert not store.freed()
    file.close(METADATA)
    assert store.freed()


@pytest.mark.parametrize("table", TABLES)
def test_a_copy_changes_no_byte_of_the_file(
    tmp_path: Path, rows: dict[str, pa.Table], table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = []
    for copied_bytes in (0, 1 << 40):
        monkeypatch.setattr(encode, "COPIED_BYTES", copied_bytes)
        parts = [rows[table].slice(at, 7) for at in range(0, rows[table].num_rows, 7)]
        whole = pa.concat_tables(parts[:2])  # two chunks a column
        written(
            tmp_path / "file", table, [whole, *parts[2:], pa.Table.from_batches([], SCHEMAS[table])], WriterOptions()
        )
        contents.append((tmp_path / "file").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("codec", "level", "name"),
    [
        ("zstd", 1, "ZSTD"),
        ("lz4", None, "LZ4"),
        ("gzip", 6, "GZIP"),
        ("snappy", None, "SNAPPY"),
        ("none", None, "UNCO"),
    ],
)
def test_the_codec_is_the_configured_one(
    tmp_path: Path, rows: dict[str, pa.Table], codec: str, level: int | None, name: str
) -> None:
    options = WriterOptions(compression=codec, compression_level=level)
    footer = written(tmp_path / "file", "logs", [rows["logs"]], options)
    assert footer.row_group(0).column(0).compression.startswith(name)
    assert pq.read_table(tmp_path / "file").equals(rows["logs"])


@pytest.mark.parametrize("wanted", [True, False])
def test_bloom_filters_are_there_if_asked_for(tmp_path: Path, rows: dict[str, pa.Table], wanted: bool) -> None:
    options = WriterOptions(bloom_filters=wanted)
    group = written(tmp_path / "file", "transactions", [rows["transactions"]], options).row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    flat = {name for name in SCHEMAS["transactions"].names if name not in ("v_parity", "status")}
    filtered = {column.path_in_schema for column in columns if column.bloom_filter_length}
    assert filtered == ({column.path_in_schema for column in columns} & flat if wanted else set())


def test_the_metadata_are_those_of_the_specification() -> None:
    made = footer_metadata(
        table="blocks",
        filename="000000000-a1b2c3d4e5f60718.parquet",
        created_ns=1767225600_123456789,
        range_=BlockRange("mainnet", 0, 99, hash=b"\xab" * 32, prev_hash=bytes(32), timestamp=1767225599),
        parents=[3, 4],
        generation=1,
    )
    assert (made["parent_file_ids"], made["generation"]) == ("[3,4]", "1")
    assert made["nozzle_metadata"] == (
        '{"table":"blocks","filename":"000000000-a1b2c3d4e5f60718.parquet",'
        '"created_at":{"secs":1767225600,"nanos":123456789},'
        '"ranges":[{"numbers":{"start":0,"end":99},"network":"mainnet",'
        f'"hash":"0x{"ab" * 32}","prev_hash":"0x{"00" * 32}","timestamp":1767225599}}]}}'
    )
    assert json.loads(made["nozzle_metadata"])["table"] == "blocks"


# -- disks that fail --------------------------------------------------------------------------------------------------


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_full_disk_at_the_first_byte_leaves_nothing(tmp_path: Path) -> None:
    before = open_files()
    path = tmp_path / "file"
    path.symlink_to("/dev/full")
    with pytest.raises(StoreFull, match=r"file: no space left\. Free some"):
        TableFile(path, "logs", WriterOptions())
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before


class FullSink:
    """A file whose disk is full after ``room`` bytes; ``fired`` counts the writes that failed."""

    def __init__(self, path: Path, room: int) -> None:
        self._file = path.open("wb")
        self._room = room
        self.fired = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        if self._file.tell() + len(data) > self._room:
            self.fired += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        self.closed = True
        self._file.close()


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(
    tmp_path: Path, rows: dict[str, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files()
    sinks: list[FullSink] = []

    def open_sink(path: str, mode: str) -> pa.PythonFile:
        sinks.append(FullSink(Path(path), 10_000))
        return pa.PythonFile(sinks[0], mode)

    monkeypatch.setattr(pa, "OSFile", open_sink)
    file = TableFile(tmp_path / "file", "transactions", WriterOptions())
    file.write(rows["transactions"])
    with pytest.raises(StoreFull):
        file.close(METADATA)
    assert sinks[0].fired > 0
    file.discard()
    assert sinks[0].closed
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before


def test_a_directory_that_is_gone_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gone/file: .*Mend the directory"):
        TableFile(tmp_path / "gone" / "file", "logs", WriterOptions())


@pytest.mark.parametrize("closed", [True, False])
def test_discarding_leaves_nothing(tmp_path: Path, rows: dict[str, pa.Table], closed: bool) -> None:
    before = open_files()
    file = TableFile(tmp_path / "file", "logs", WriterOptions())
    file.write(rows["logs"])
    if closed:
        file.close(METADATA)
    file.discard()
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before
