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
        numbers = file.block_range["numbers"]
        if (numbers["start"], numbers["end"]) != (file.first, file.last):
            yield f"I1 {table} {file.name}: its row says {numbers}, its segment {file.first}..{file.last}"
        if file.first != expected:
            yield f"I1 {table}: {file.name} starts at {file.first}, expected {expected}"
        expected = file.blocks.stop
    if expected != last + 1:
        yield f"I1 {table}: ends at {expected - 1}, expected {last}"


def live_for_readers(table: str, files: list[File]) -> Iterator[str]:
    """I1: what we call live is what a reader takes for it, who knows the rows of Amp alone (``spec/data.md`` 6.1)."""
    chain: list[File] = []
    for file in sorted(files, key=lambda file: (file.block_range["numbers"]["start"], -file.created_ns, -file.id)):
        follows = not chain or chain[-1].block_range["numbers"]["end"] < file.block_range["numbers"]["start"]
        if follows and (not chain or chain[-1].block_range["hash"] == file.block_range["prev_hash"]):
            chain.append(file)
    if wrong := {file.id for file in chain} ^ {file.id for file in files if file.canonical}:
        yield f"I1 {table}: files {sorted(wrong)} are live for readers, or for us, but not for both"


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
