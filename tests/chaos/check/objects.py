"""I2 and I3: each row has its object, whole and as described, and no object is known to nobody."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from tests.chaos.check.files import File, path_of

STAGING = ".ampd-ray-staging"

REVISIONS = """
select r.id, r.path, coalesce(l.epoch, 0), coalesce(l.expires_at > now(), false)
from physical_table_revisions r left join ampd_ray.location_lease l on l.location_id = r.id
"""
ROWS = "select file_name from file_metadata where location_id = %s"
TOMBSTONES = "select url from ampd_ray.tombstone where location_id = %s"
INTENTS = "select file_name, epoch, swept_at is not null from ampd_ray.file_intent where location_id = %s"


def is_there(file: File) -> Iterator[str]:
    """I2, of a file whose content was looked at before: it is still there."""
    if not file.path.is_file() or file.path.stat().st_size != file.size:
        yield f"I2 {file.path}: missing, or its size has changed"


def content(file: File) -> tuple[pa.Table | None, list[str]]:
    """I2: the object is there, is what its row says, opens, and holds the rows that it should; its rows too."""
    if file.canonical is None:
        return None, [f"I2 {file.name}: no segment row"]
    if not file.path.is_file():
        return None, [f"I2 {file.path}: missing"]
    problems = []
    raw = file.path.read_bytes()
    if len(raw) != file.size or hashlib.sha256(raw).digest() != file.sha256:
        problems.append(f"I2 {file.path}: {len(raw)} bytes, its row says {file.size}, or another checksum")
    try:
        parquet = pq.ParquetFile(pa.BufferReader(raw))
        table = parquet.read()
    except (OSError, pa.ArrowInvalid) as error:
        return None, [*problems, f"I2 {file.path}: does not open: {error}"]
    return table, problems + list(_as_described(file, parquet, table))


def _as_described(file: File, parquet: pq.ParquetFile, table: pa.Table) -> Iterator[str]:
    numbers: list[int] = table.column("_block_num").to_pylist()
    if len(numbers) != file.rows or parquet.metadata.num_rows != file.rows:
        yield f"I2 {file.path}: {len(numbers)} rows, its segment says {file.rows}"
    if json.loads(parquet.metadata.metadata[b"nozzle_metadata"]) != file.metadata:
        yield f"I2 {file.path}: footer and row describe it differently"
    if stray := [number for number in numbers if number not in file.blocks]:
        yield f"I2 {file.path}: holds block {stray[0]}, outside of {file.first}..{file.last}"
    if file.table == "blocks" and numbers != list(file.blocks):
        yield f"I1 {file.path}: {len(numbers)} blocks, not each of {file.first}..{file.last} once"


def unknown(connection: psycopg.Connection[Any], data_dir: Path, *, strict: bool) -> list[str]:
    """I3: objects that neither a row nor a tombstone tells of, and staging files that nobody can commit.

    Unless ``strict``, an object may also be announced: under the epoch of now, because it is on its way; under a lower
    one, because a late writer put it there after the sweep, and it will be looked for again after an hour. What was
    never swept although somebody holds the revision is a problem always.
    """
    problems = []
    for location, path, epoch, held in connection.execute(REVISIONS).fetchall():
        directory = data_dir / path
        objects = {each.name for each in directory.iterdir()} if directory.is_dir() else set()
        known = {name for (name,) in connection.execute(ROWS, [location]).fetchall()}
        known |= {path_of(url).name for (url,) in connection.execute(TOMBSTONES, [location]).fetchall()}
        for name, announced_under, swept in connection.execute(INTENTS, [location]).fetchall():
            overdue = held and announced_under < epoch and not swept
            if not strict and not overdue:
                known.add(name)
        problems += [f"I3 {path}/{name}: nobody knows it" for name in sorted(objects - known)]
        for left in (data_dir / STAGING / str(location)).glob("*/*"):
            if strict or (held and int(left.parent.name) < epoch):
                problems.append(f"I3 {left}: left in staging")
    return problems
