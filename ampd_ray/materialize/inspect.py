"""Look into a stored file: what an audit holds against its rows. Blocks; a large file is read through once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ampd_ray.errors import ObjectMissing
from ampd_ray.store.files import Store

_BLOCK_COLUMN: Final = 0  # _block_num, in every table (data.md 1.2)
_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What the store holds under a name. ``fault``: why it is no Parquet file that can be read; the rest is empty then.

    ``blocks``: lowest and highest ``_block_num`` by the footer's statistics, None without rows or statistics;
    ``described``: the key ``nozzle_metadata``; ``footer``: the file's own, as ``footer_cache`` keeps it.
    """

    size: int
    sha256: bytes
    fault: str | None = None
    rows: int = 0
    blocks: tuple[int, int] | None = None
    described: str | None = None
    footer: bytes = b""
    page_index: bool = False


def inspect_object(store: Store, path: str, *, decode: bool) -> ObjectFacts | None:
    """The facts of an object, None if there is none; ``decode``: read every row too. Raises ``StoreError``."""
    try:
        file = store.open(path)
    except ObjectMissing:
        return None
    with file:
        sha256 = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        size = file.tell()
        try:
            return _parquet_facts(file, size, sha256, decode=decode)
        except (pa.ArrowException, OSError, ValueError) as error:
            return ObjectFacts(size, sha256, fault=str(error).strip().splitlines()[0][:200] or type(error).__name__)


def _parquet_facts(file: BinaryIO, size: int, sha256: bytes, *, decode: bool) -> ObjectFacts:
    with pq.ParquetFile(file) as parquet:
        footer = parquet.metadata
        if decode:
            for _ in parquet.iter_batches(_BATCH_ROWS):
                pass
        described = (footer.metadata or {}).get(b"nozzle_metadata")
        file.seek(-8, 2)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-(8 + length), 2)
        return ObjectFacts(
            size=size,
            sha256=sha256,
            rows=footer.num_rows,
            blocks=_blocks(footer),
            described=None if described is None else described.decode(errors="replace"),
            footer=file.read(),
            page_index=_has_page_index(footer),
        )


def _blocks(footer: Any) -> tuple[int, int] | None:
    chunks = [footer.row_group(i).column(_BLOCK_COLUMN) for i in range(footer.num_row_groups)]
    known = [chunk.statistics for chunk in chunks if chunk.is_stats_set and chunk.statistics.has_min_max]
    if not known:
        return None
    return min(each.min for each in known), max(each.max for each in known)


def _has_page_index(footer: Any) -> bool:
    return any(
        footer.row_group(i).column(j).has_offset_index
        for i in range(footer.num_row_groups)
        for j in range(footer.num_columns)
    )
