"""One table of one segment as a Parquet file on local disk (``spec/data.md`` 5.3, 5.4, 5.7)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ampd_ray.chain.ranges import BlockRange
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.errors import StoreError, StoreFull
from ampd_ray.materialize.types import WriterOptions

MAX_ROW_GROUP_ROWS = 1_048_576
DATA_PAGE_BYTES = 1 << 20
COPIED_BYTES = 1 << 20

# Dictionaries only where values repeat within a row group; unique hashes and signatures would only cost time.
DICTIONARY_COLUMNS = {
    "blocks": ["ommers_hash", "miner", "difficulty", "gas_limit", "extra_data", "nonce"],
    "transactions": [
        "_block_num", "block_hash", "block_num", "timestamp", "to", "gas_limit", "value", "chain_id", "type",
        "max_priority_fee_per_gas", "from",
    ],
    "logs": ["_block_num", "block_hash", "block_num", "timestamp", "tx_index", "address", "topic0", "topic1", "topic2",
             "topic3"],
}  # fmt: skip

# What Amp's own option asks for: every column, 10,000 distinct values, 5 % false positives. Booleans and nested
# columns can have none.
BLOOM_FILTER = {"ndv": 10_000, "fpp": 0.05}


@dataclass(frozen=True)
class ClosedFile:
    """A complete Parquet file in staging. ``footer`` is the blob of ``spec/data.md`` 5.7, route A.

    ``size`` and ``sha256`` are those of the bytes that were written: what the store has to hold in the end.
    """

    table: str
    path: Path
    rows: int
    footer: bytes
    size: int
    sha256: bytes


class HashedSink:
    """Passes bytes on to ``sink``, and keeps count and checksum of them."""

    closed = False

    def __init__(self, sink: pa.NativeFile):
        self.size = 0
        self._sink = sink
        self._sha256 = hashlib.sha256()

    @property
    def sha256(self) -> bytes:
        """The checksum of all bytes so far."""
        return self._sha256.digest()

    def write(self, data: bytes) -> int:
        """Write all of ``data``."""
        self._sink.write(data)
        self._sha256.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back here."""


class TableFile:
    """An open Parquet file. Rows gather in memory until they make a row group."""

    def __init__(self, path: Path, table: str, options: WriterOptions):
        self.table = table
        self.rows = 0
        self._path = path
        self._options = options
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        with _disk_errors(path):
            self._sink = pa.OSFile(str(path), "wb")
            self._hashed = HashedSink(self._sink)
            try:
                self._writer = _parquet_writer(pa.PythonFile(self._hashed, "w"), table, options)
            except BaseException:
                self._sink.close()
                path.unlink()
                raise

    def write(self, rows: pa.Table) -> None:
        """Add rows of the table's exact schema, in block order."""
        nbytes = rows.nbytes
        self._pending.append(_copied(rows) if nbytes < COPIED_BYTES else rows)
        self._pending_bytes += nbytes
        self.rows += rows.num_rows
        pending_rows = sum(table.num_rows for table in self._pending)
        if self._pending_bytes >= self._options.row_group_bytes or pending_rows >= MAX_ROW_GROUP_ROWS:
            self._flush()

    def close(self, metadata: Mapping[str, str]) -> ClosedFile:
        """Finish the file with these footer keys."""
        self._flush()
        with _disk_errors(self._path):
            self._writer.add_key_value_metadata(dict(metadata))
            self._writer.close()
            self._sink.close()
            footer = read_footer(self._path)
        return ClosedFile(self.table, self._path, self.rows, footer, self._hashed.size, self._hashed.sha256)

    def discard(self) -> None:
        """Remove the file, finished or not. Its writer must be closed all the same, so that what it holds is freed."""
        self._pending.clear()
        for each in (self._writer, self._sink):
            with contextlib.suppress(OSError):
                each.close()
        self._path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.concat_tables(self._pending)
        self._pending, self._pending_bytes = [], 0
        with _disk_errors(self._path):
            self._writer.write_table(table, row_group_size=MAX_ROW_GROUP_ROWS)


def measured(table: str, rows: pa.Table, options: WriterOptions) -> int:
    """The bytes of a file of these rows in one row group, as a writer would make it; it is made in memory."""
    sink = HashedSink(pa.BufferOutputStream())
    with _parquet_writer(pa.PythonFile(sink, "w"), table, options) as writer:
        writer.write_table(rows, row_group_size=MAX_ROW_GROUP_ROWS)
    return sink.size


def _copied(rows: pa.Table) -> pa.Table:
    """The rows, and no others, in memory of their own.

    Few rows wait long for a row group to fill, and would hold all that came with them in the object store so long.
    They may be a part of many: to copy their buffers would copy all of those.
    """
    if not rows.num_rows:
        return rows.schema.empty_table()
    return pa.Table.from_arrays([pa.concat_arrays(column.chunks) for column in rows.columns], schema=rows.schema)


def _parquet_writer(sink: pa.NativeFile, table: str, options: WriterOptions) -> pq.ParquetWriter:
    """The properties of ``spec/data.md`` 5.3, route A."""
    schema = SCHEMAS[table]
    return pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        data_page_version="1.0",
        data_page_size=DATA_PAGE_BYTES,
        compression=options.compression,
        compression_level=options.compression_level,
        use_dictionary=DICTIONARY_COLUMNS[table],
        use_compliant_nested_type=False,
        write_statistics=True,
        write_page_index=False,
        store_schema=True,
        bloom_filter_options=_bloom_filters(schema) if options.bloom_filters else None,
    )


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors on a staging file into store errors."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"cannot write {path}: no space left. Free some, then retry the job.") from error
        raise StoreError(f"cannot write {path}: {error}. Mend the directory, then retry the job.") from error


def footer_metadata(
    *, table: str, filename: str, created_ns: int, range_: BlockRange, parents: list[int], generation: int
) -> dict[str, str]:
    """The footer keys that Amp reads (``spec/data.md`` 5.4); ``nozzle_metadata`` also goes into the file row."""
    described = {
        "table": table,
        "filename": filename,
        "created_at": {"secs": created_ns // 10**9, "nanos": created_ns % 10**9},
        "ranges": [
            {
                "numbers": {"start": range_.start, "end": range_.end},
                "network": range_.network,
                "hash": "0x" + range_.hash.hex(),
                "prev_hash": "0x" + range_.prev_hash.hex(),
                "timestamp": range_.timestamp,
            }
        ],
    }
    return {
        "nozzle_metadata": json.dumps(described, separators=(",", ":")),
        "parent_file_ids": json.dumps(parents, separators=(",", ":")),
        "generation": str(generation),
    }


def read_footer(path: Path) -> bytes:
    """The file's own footer with its length and magic: it has no page index, so no offset needs rebasing."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-(8 + length), 2)
        return file.read()


def _bloom_filters(schema: pa.Schema) -> dict[str, dict[str, float]]:
    return {f.name: BLOOM_FILTER for f in schema if not pa.types.is_nested(f.type) and not pa.types.is_boolean(f.type)}
