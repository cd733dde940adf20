"""Looks at a data set from outside and says what is wrong with it: the invariants of ``spec/commit.md`` 8.

A process of its own that shares no code with the product: SQL, hashes, Parquet.

    python -m tests.chaos.check DATABASE_URL NAMESPACE/NAME FIRST LAST
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

TABLES = ("blocks", "transactions", "logs")
# From each status, those that may follow it (metadata-db.md 5.2).
LEGAL = {
    "SCHEDULED": {"RUNNING", "STOP_REQUESTED", "ERROR", "FATAL"},
    "RUNNING": {"STOP_REQUESTED", "COMPLETED", "ERROR", "FATAL"},
    "STOP_REQUESTED": {"STOPPING"},
    "STOPPING": {"STOPPED"},
    **{ended: {"SCHEDULED"} for ended in ("STOPPED", "COMPLETED", "ERROR", "FATAL")},
}

FILES = """
select f.id, t.table_name, f.location_id, f.metadata, f.object_size, f.url, f.file_name,
       s.canonical, s.sha256, s.row_count, s.epoch, lower(s.blocks) as first, upper(s.blocks) - 1 as last
from physical_tables t
join file_metadata f on f.location_id = t.active_revision_id
left join ampd_ray.segment s on s.file_id = f.id
where t.dataset_namespace = %s and t.dataset_name = %s
order by t.table_name, f.id
"""
# A job that changes hands is RUNNING once more (7.6).
EVENTS = """
select job_id, event_type
from (select *, lag(event_type) over (partition by job_id order by id) as before from job_events) e
where not (event_type = 'RUNNING' and before = 'RUNNING' and detail ? 'reassigned_from')
order by job_id, id
"""
STATUSES = "select job_id, status from jobs_status"
LEASES = "select location_id, epoch from ampd_ray.location_lease"


@dataclass(frozen=True)
class File:
    """One registered file of a table, with its segment."""

    id: int
    table: str
    location: int
    metadata: dict[str, Any]
    size: int
    url: str
    name: str
    canonical: bool | None
    sha256: bytes | None
    rows: int | None
    epoch: int | None
    first: int | None
    last: int | None

    @property
    def path(self) -> Path:
        """Where its object is."""
        return Path(unquote(urlsplit(self.url + self.name if self.url.endswith("/") else self.url).path))


def read_files(connection: psycopg.Connection[Any], dataset: str) -> list[File]:
    """All registered files of a dataset's active revisions, in the order in which they were committed."""
    return [File(*row) for row in connection.execute(FILES, dataset.split("/")).fetchall()]


def check(url: str, dataset: str, first: int, last: int) -> list[str]:
    """Everything that is wrong with blocks ``first`` to ``last`` of ``dataset``; an empty list is the good answer."""
    with psycopg.connect(url, autocommit=True) as connection:
        files = read_files(connection, dataset)
        epochs: dict[int, int] = dict(connection.execute(LEASES).fetchall())
        problems = list(_jobs(connection))
    for table in TABLES:
        of_table = [file for file in files if file.table == table]
        problems += _exactly_once(table, of_table, first, last)
        problems += _epochs(table, of_table, epochs)
    problems += [problem for file in files for problem in _object(file)]
    return problems + list(_same_coverage(files))


def _exactly_once(table: str, files: list[File], first: int, last: int) -> Iterator[str]:
    """I1: the live files tile the range, and the blocks inside are those that the ranges promise."""
    live = sorted((file for file in files if file.canonical), key=lambda file: file.first or 0)
    expected = first
    for file in live:
        numbers = file.metadata["ranges"][0]["numbers"]
        if (numbers["start"], numbers["end"]) != (file.first, file.last):
            yield f"I1 {table} {file.name}: its row says {numbers}, its segment {file.first}..{file.last}"
        if file.first != expected:
            yield f"I1 {table}: {file.name} starts at {file.first}, expected {expected}"
        expected = (file.last or 0) + 1
    if expected != last + 1:
        yield f"I1 {table}: ends at {expected - 1}, expected {last}"
    if table == "blocks":
        found = Counter(n for file in live for n in _numbers(file.path))
        if found != Counter(range(first, last + 1)):
            wrong = sorted(n for n in {*found, *range(first, last + 1)} if found[n] != 1)
            yield f"I1 blocks: {len(wrong)} blocks not exactly once, the first is {wrong[:1]}"


def _numbers(path: Path) -> list[int]:
    try:
        numbers: list[int] = pq.read_table(path, columns=["block_num"]).column(0).to_pylist()
    except (OSError, pa.ArrowInvalid):  # what is wrong with the object is said for itself
        return []
    return numbers


def _object(file: File) -> Iterator[str]:
    """I2: the object is there, is what its row says, opens, and holds the rows that it should."""
    if file.canonical is None:
        yield f"I2 {file.name}: no segment row"
        return
    if not file.path.is_file():
        yield f"I2 {file.path}: missing"
        return
    content = file.path.read_bytes()
    if len(content) != file.size or hashlib.sha256(content).digest() != file.sha256:
        yield f"I2 {file.path}: {len(content)} bytes, its row says {file.size}, or another checksum"
    try:
        parquet = pq.ParquetFile(file.path)
        numbers = parquet.read(columns=["_block_num"]).column(0).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        yield f"I2 {file.path}: does not open: {error}"
        return
    if len(numbers) != file.rows or parquet.metadata.num_rows != file.rows:
        yield f"I2 {file.path}: {len(numbers)} rows, its segment says {file.rows}"
    if json.loads(parquet.metadata.metadata[b"nozzle_metadata"]) != file.metadata:
        yield f"I2 {file.path}: footer and row describe it differently"
    if stray := [number for number in numbers if not (file.first or 0) <= number <= (file.last or 0)]:
        yield f"I2 {file.path}: holds block {stray[0]}, outside of {file.first}..{file.last}"


def _jobs(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """I5: each job's status is that of its last event, and each step to it was allowed."""
    events: dict[int, list[str]] = defaultdict(list)
    for job_id, event in connection.execute(EVENTS).fetchall():
        events[job_id].append(event)
    for job_id, status in connection.execute(STATUSES).fetchall():
        history = events[job_id]
        if not history or history[-1] != status or history[0] != "SCHEDULED":
            yield f"I5 job {job_id}: status {status}, events {history}"
        for before, after in pairwise(history):
            if after not in LEGAL[before]:
                yield f"I5 job {job_id}: {before} was followed by {after}"


def _epochs(table: str, files: list[File], leases: dict[int, int]) -> Iterator[str]:
    """I6: in the order of commits the epochs only rise, up to that of the lease."""
    for before, after in pairwise(files):
        if after.epoch is None or before.epoch is None or after.epoch < before.epoch:
            yield f"I6 {table}: {after.name} of epoch {after.epoch} came after one of {before.epoch}"
    for file in files:
        if file.epoch is not None and file.epoch > leases.get(file.location, 0):
            yield f"I6 {table}: {file.name} has epoch {file.epoch}, its lease {leases.get(file.location)}"


def _same_coverage(files: list[File]) -> Iterator[str]:
    """I7: all tables cover the same blocks."""
    covered = {t: {n for f in files if f.table == t and f.canonical for n in range(f.first or 0, (f.last or 0) + 1)}
               for t in TABLES}  # fmt: skip
    for table in TABLES[1:]:
        if covered[table] != covered[TABLES[0]]:
            yield f"I7 {table} covers {len(covered[table])} blocks, {TABLES[0]} {len(covered[TABLES[0]])}"


def main(arguments: list[str]) -> int:
    """Print a summary as JSON; 1 if something is wrong."""
    url, dataset, first, last = arguments
    problems = check(url, dataset, int(first), int(last))
    with psycopg.connect(url, autocommit=True) as connection:
        files = read_files(connection, dataset)
    epochs = sorted({file.epoch for file in files if file.epoch is not None})
    print(json.dumps({"problems": problems, "files": len(files), "epochs": epochs}))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
