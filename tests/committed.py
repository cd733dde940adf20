"""What a metadata database says is committed, read as a stranger would: plain SQL, then the files that it names."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg.rows import dict_row

from tests.reference import Row, comparable

FILES = """
select t.dataset_name as dataset, t.table_name as table, t.manifest_hash as manifest, f.id, f.url, f.file_name,
       f.object_size as size, f.metadata, c.footer, s.canonical, s.row_count as row_count, s.verified
from physical_tables t
join file_metadata f on f.location_id = t.active_revision_id
join footer_cache c on c.file_id = f.id
join ampd_ray.segment s on s.file_id = f.id
order by t.dataset_name, t.table_name, (f.metadata #>> '{ranges,0,numbers,start}')::bigint, f.id
"""
UNFINISHED = """
select (select count(*) from file_metadata) - (select count(*) from footer_cache) as files_without_footer,
       (select count(*) from file_metadata) - (select count(*) from ampd_ray.segment) as files_without_segment,
       (select count(*) from ampd_ray.file_intent) as intents,
       (select count(*) from jobs_status where upper(status) <> 'COMPLETED') as jobs
"""


@dataclass(frozen=True)
class CommittedFile:
    """One row of ``file_metadata`` with what belongs to it. Blocks are inclusive, hashes 0x hex."""

    dataset: str
    table: str
    manifest: str
    url: str
    file_name: str
    size: int
    metadata: dict[str, Any]
    footer: bytes
    canonical: bool
    row_count: int
    verified: str

    @property
    def path(self) -> Path:
        parts = urlsplit(self.url)
        assert parts.scheme == "file"
        assert self.url.endswith("/")
        return Path(unquote(parts.path)) / self.file_name

    @property
    def range(self) -> dict[str, Any]:
        (only,) = self.metadata["ranges"]
        found: dict[str, Any] = only
        return found

    @property
    def start(self) -> int:
        return int(self.range["numbers"]["start"])

    @property
    def end(self) -> int:
        return int(self.range["numbers"]["end"])

    def read(self) -> pa.Table:
        return pq.read_table(self.path)


def committed_files(dsn: str) -> list[CommittedFile]:
    """All files of active revisions, by dataset, table and first block; fails if anything is half done."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        unfinished = connection.execute(UNFINISHED).fetchone()
        assert unfinished is not None
        assert set(unfinished.values()) == {0}, unfinished
        found = connection.execute(FILES).fetchall()
    return [CommittedFile(**{key: value for key, value in row.items() if key != "id"}) for row in found]


def check_file(file: CommittedFile) -> None:
    """The object, its own footer and its rows in the database say the same (data.md 5.4 to 5.7)."""
    data = file.path.read_bytes()
    assert len(data) == file.size
    assert data.endswith(file.footer)
    assert file.footer == data[-8 - int.from_bytes(data[-8:-4], "little") :]
    footer = pq.read_metadata(file.path)
    assert footer.num_rows == file.row_count
    keys = {key.decode(): value.decode() for key, value in footer.metadata.items() if key != b"ARROW:schema"}
    assert json.loads(keys.pop("nozzle_metadata")) == file.metadata
    assert keys == {"parent_file_ids": "[]", "generation": "0"}
    assert file.metadata["filename"] == file.file_name
    assert file.metadata["table"] == file.table
    for column in (
        footer.row_group(g).column(c) for g in range(footer.num_row_groups) for c in range(footer.num_columns)
    ):
        assert not column.has_offset_index
        assert not column.has_column_index


def stretches(files: list[CommittedFile]) -> list[tuple[int, int]]:
    """The blocks that canonical ``files`` of one table hold, as inclusive stretches that are hash-linked inside."""
    found: list[tuple[int, int]] = []
    last: CommittedFile | None = None
    for file in sorted(files, key=lambda file: file.start):
        if last is not None and file.manifest == last.manifest:
            assert file.start == last.end + 1
            assert file.range["prev_hash"] == last.range["hash"]
            found[-1] = (found[-1][0], file.end)
        else:
            assert last is None or file.start > last.end
            found.append((file.start, file.end))
        last = file
    return found


def rows_of(files: list[CommittedFile]) -> dict[str, list[Row]]:
    """The rows of ``files`` by table, in block order, as ``tests.reference`` would give them."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for file in sorted(files, key=lambda file: file.start):
        of_file = comparable(file.read())
        assert all(file.start <= row["_block_num"] <= file.end for row in of_file)
        rows[file.table] += of_file
    return rows
