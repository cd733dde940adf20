"""I1, I6, I7: what the live files cover, and in which order they came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from tests.chaos.check.files import TABLES, File


def exactly_once(table: str, files: list[File], first: int, last: int) -> Iterator[str]:
    """I1: the live files of a table tile the range. That they hold these blocks is seen inside of them."""
    live = sorted((file for file in files if file.canonical), key=lambda file: file.first or 0)
    expected = first
    for file in live:
        numbers = file.metadata["ranges"][0]["numbers"]
        if (numbers["start"], numbers["end"]) != (file.first, file.last):
            yield f"I1 {table} {file.name}: its row says {numbers}, its segment {file.first}..{file.last}"
        if file.first != expected:
            yield f"I1 {table}: {file.name} starts at {file.first}, expected {expected}"
        expected = file.blocks.stop
    if expected != last + 1:
        yield f"I1 {table}: ends at {expected - 1}, expected {last}"


def rising_epochs(table: str, files: list[File], leases: Mapping[int, int]) -> Iterator[str]:
    """I6: in the order of commits the epochs only rise, up to that of the lease."""
    for before, after in pairwise(files):
        if after.epoch is None or before.epoch is None or after.epoch < before.epoch:
            yield f"I6 {table}: {after.name} of epoch {after.epoch} came after one of {before.epoch}"
    for file in files:
        if file.epoch is not None and file.epoch > leases.get(file.location, 0):
            yield f"I6 {table}: {file.name} has epoch {file.epoch}, its lease {leases.get(file.location)}"


def same_coverage(files: list[File]) -> Iterator[str]:
    """I7: all tables cover the same blocks."""
    covered = {t: {n for f in files if f.table == t and f.canonical for n in f.blocks} for t in TABLES}
    for table in TABLES[1:]:
        if covered[table] != covered[TABLES[0]]:
            yield f"I7 {table} covers {len(covered[table])} blocks, {TABLES[0]} {len(covered[TABLES[0]])}"
