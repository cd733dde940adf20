"""Hold rows against rows and objects, and say what is wrong (``spec/commit.md`` 8, I1, I2, I3, I7). Pure.

Each function compares what others have read. A finding's ``kind`` is a name for programs, its message a sentence for
people, with the way out where a person is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import Final

from ampd_ray.chain.ranges import Span, merge, subtract
from ampd_ray.chain.segments import Segment, canonical_flags, resolve
from ampd_ray.materialize.inspect import ObjectFacts
from ampd_ray.metadb.audit import FileRow, IntentRow

_AGAIN = "restore it, or delete its row in file_metadata to have its blocks extracted again"


class Kind(StrEnum):
    """What can be wrong."""

    OBJECT_MISSING = "object_missing"
    OBJECT_SIZE = "object_size"
    OBJECT_CHECKSUM = "object_checksum"
    PARQUET_UNREADABLE = "parquet_unreadable"
    METADATA_DIFFERS = "metadata_differs"
    ROW_COUNT = "row_count"
    BLOCKS_OUTSIDE = "blocks_outside"
    FOOTER_MISSING = "footer_missing"
    FOOTER_DIFFERS = "footer_differs"
    ROW_UNREADABLE = "row_unreadable"
    SEGMENT_MISSING = "segment_missing"
    SEGMENT_DIFFERS = "segment_differs"
    SEGMENT_STRAY = "segment_stray"
    CANONICAL_FLAG = "canonical_flag"
    QUEUED_CANONICAL = "queued_canonical"
    OVERLAP = "overlap"
    CHAIN_BROKEN = "chain_broken"
    FORK = "fork"
    HOLE = "hole"
    TABLES_DIFFER = "tables_differ"
    ORPHAN_OBJECT = "orphan_object"
    STAGING_LEFTOVER = "staging_leftover"
    INTENT_SUPERSEDED = "intent_superseded"
    INTENT_ABANDONED = "intent_abandoned"
    INTENT_FULFILLED = "intent_fulfilled"
    TOMBSTONE = "tombstone"
    TOMBSTONE_REGISTERED = "tombstone_registered"


TO_EXTRACT: Final = frozenset({Kind.CHAIN_BROKEN, Kind.FORK, Kind.HOLE, Kind.TABLES_DIFFER})
"""What goes away when the dataset's blocks are extracted again: a job does what is missing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``subject``: the file, or the blocks; ``repaired``: it was, and is right now."""

    kind: Kind
    table: str
    subject: str
    message: str
    file_id: int | None = None
    repaired: bool = False

    def mended(self) -> Finding:
        """The same finding, repaired."""
        return replace(self, repaired=True)


def of_row(table: str, row: FileRow, segment: Segment) -> Iterator[Finding]:
    """A file row against its segment in the index."""
    indexed = row.indexed
    if indexed is None:
        yield _of(Kind.SEGMENT_MISSING, table, row, "the segment index does not have it")
        return
    # The index keeps no timestamp.
    promised = replace(segment.range, timestamp=None)
    if not indexed.at_home or indexed.range != promised:
        said = f"{indexed.range.span}" if indexed.at_home else "another revision"
        yield _of(Kind.SEGMENT_DIFFERS, table, row, f"the segment index says {said}, its row {segment.range.span}")


def of_object(table: str, row: FileRow, facts: ObjectFacts | None, footer: bytes | None) -> Iterator[Finding]:
    """A file row, its segment and its cached footer against the object itself; ``facts`` None: there is none."""
    if facts is None:
        yield _of(Kind.OBJECT_MISSING, table, row, f"the object is not in the data directory: {_AGAIN}")
        return
    if facts.size != row.size:
        yield _of(Kind.OBJECT_SIZE, table, row, f"the object has {facts.size} bytes, its row says {row.size}: {_AGAIN}")
    elif row.indexed and row.indexed.sha256 not in (None, facts.sha256):
        yield _of(Kind.OBJECT_CHECKSUM, table, row, f"the object is not what was written (SHA-256 differs): {_AGAIN}")
    if facts.fault is not None:
        yield _of(Kind.PARQUET_UNREADABLE, table, row, f"the object is no readable Parquet file ({facts.fault})")
        return
    yield from _of_content(table, row, facts)
    if footer is None:
        yield _of(Kind.FOOTER_MISSING, table, row, "footer_cache does not have it: Amp cannot read the table")
    elif footer != facts.footer and not facts.page_index:  # else it is another form of the same by design (5.7)
        yield _of(Kind.FOOTER_DIFFERS, table, row, "footer_cache does not hold the file's own footer")


def _of_content(table: str, row: FileRow, facts: ObjectFacts) -> Iterator[Finding]:
    described = _parsed(facts.described)
    if described != _parsed(row.metadata):
        yield _of(Kind.METADATA_DIFFERS, table, row, f"the file's nozzle_metadata is not what its row says: {_AGAIN}")
    counted = row.indexed.row_count if row.indexed else None
    if counted not in (None, facts.rows):
        yield _of(Kind.ROW_COUNT, table, row, f"the file has {facts.rows} rows, the segment index says {counted}")
    span = _numbers(described)
    if facts.blocks and span and not (span[0] <= facts.blocks[0] and facts.blocks[1] <= span[1]):
        found = f"{facts.blocks[0]}..{facts.blocks[1]}"
        yield _of(Kind.BLOCKS_OUTSIDE, table, row, f"the file holds blocks {found}, outside of {span[0]}..{span[1]}")


def is_sound(row: FileRow, facts: ObjectFacts | None) -> bool:
    """True if the object is what its row says, as far as anybody can tell: what follows from it may be mended by it."""
    return (
        facts is not None
        and facts.fault is None
        and facts.size == row.size
        and (row.indexed is None or row.indexed.sha256 in (None, facts.sha256))
        and _parsed(facts.described) == _parsed(row.metadata)
    )


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered file of a table: ``flagged`` as canonical by the index, None if that lacks it; ``queued`` to go."""

    segment: Segment
    name: str
    flagged: bool | None
    queued: bool


def of_chain(table: str, files: Sequence[Registered]) -> Iterator[Finding]:
    """Canonical flags, overlaps, hash links and forks of one table."""
    right = canonical_flags(file.segment for file in files)
    for file in files:
        yield from _of_flags(table, file, live=right[file.segment.file_id])
    yield from _overlaps(table, [file for file in files if file.flagged])
    chain = sorted((f.segment for f in files if right[f.segment.file_id]), key=lambda s: s.range.start)
    for before, after in pairwise(chain):
        if before.range.end + 1 == after.range.start and before.range.hash != after.range.prev_hash:
            message = f"block {after.range.start} does not follow block {before.range.end}"
            yield Finding(Kind.CHAIN_BROKEN, table, str(after.range.span), message, after.file_id)
    resolved = resolve(file.segment for file in files)
    if resolved and resolved.fork:
        span = Span(resolved.fork[0].range.start, resolved.fork[-1].range.end)
        message = f"blocks {span} of another branch reach above the chain"
        yield Finding(Kind.FORK, table, str(span), message)


def _of_flags(table: str, file: Registered, *, live: bool) -> Iterator[Finding]:
    span, file_id = file.segment.range.span, file.segment.file_id
    if file.flagged not in (None, live):
        message = f"the segment index has blocks {span} {'off' if live else 'on'} the chain, which is wrong"
        yield Finding(Kind.CANONICAL_FLAG, table, file.name, message, file_id)
    if live and file.queued:
        message = f"blocks {span} are on the chain, but the file waits for its deletion"
        yield Finding(Kind.QUEUED_CANONICAL, table, file.name, message, file_id)


def _overlaps(table: str, flagged: Sequence[Registered]) -> Iterator[Finding]:
    """Blocks of more than one file that the index calls canonical: readers of the index see them twice."""
    order = sorted(flagged, key=lambda file: file.segment.range.start)
    for before, after in pairwise(order):
        one, two = before.segment.range, after.segment.range
        if two.start <= one.end:
            span = Span(two.start, min(one.end, two.end))
            message = f"blocks {span} are live in both {before.name} and {after.name}"
            yield Finding(Kind.OVERLAP, table, str(span), message, after.segment.file_id)


def covered(segments: Sequence[Segment]) -> list[Span]:
    """The blocks that the live files hold."""
    flags = canonical_flags(segments)
    return merge(segment.range.span for segment in segments if flags[segment.file_id])


def of_coverage(start: int, tables: Mapping[str, Sequence[Span]]) -> Iterator[Finding]:
    """Holes between ``start`` and each table's end, and blocks that some tables have and others lack."""
    everything = merge(span for spans in tables.values() for span in spans)
    for table, spans in tables.items():
        holes = subtract(Span(start, spans[-1].end), spans) if spans and spans[-1].end >= start else []
        for hole in holes:
            message = f"blocks {hole} are in no file"
            yield Finding(Kind.HOLE, table, str(hole), message)
        for lacking in subtract(subtract(everything, spans), holes):
            having = [other for other, theirs in tables.items() if subtract(lacking, theirs) != [lacking]]
            message = f"blocks {lacking} are in {' and '.join(having)}, but not here"
            yield Finding(Kind.TABLES_DIFFER, table, str(lacking), message)


def of_intent(table: str, intent: IntentRow, *, uploaded: bool) -> Finding | None:
    """An announced file, if it should not be there any more; ``uploaded``: its object is in the store."""
    there = "its object is in the store" if uploaded else "it has no object"
    if intent.registered:
        return Finding(Kind.INTENT_FULFILLED, table, intent.file_name, "announced, although it is registered")
    if intent.current:
        if intent.live:
            return None
        message = f"announced by the last holder of epoch {intent.epoch}, whose lease has lapsed; {there}"
        return Finding(Kind.INTENT_ABANDONED, table, intent.file_name, message)
    if intent.swept and not uploaded:
        return None  # kept for a day, in case of a late upload
    message = f"announced under epoch {intent.epoch}, which can commit no more; {there}"
    return Finding(Kind.INTENT_SUPERSEDED, table, intent.file_name, message)


def of_tombstone(table: str, url: str, *, registered: bool, uploaded: bool) -> Finding:
    """An object that is still to be deleted."""
    name = url.rpartition("/")[2]
    if registered:
        message = "marked for deletion, although it is registered"
        return Finding(Kind.TOMBSTONE_REGISTERED, table, name, message)
    message = f"to be deleted; {'its object is still there' if uploaded else 'its object is gone'}"
    return Finding(Kind.TOMBSTONE, table, name, message)


def _of(kind: Kind, table: str, row: FileRow, message: str) -> Finding:
    return Finding(kind, table, row.file_name, message, row.file_id)


def _parsed(text: str | None) -> object:
    try:
        return json.loads(text or "null")
    except ValueError:
        return text


def _numbers(described: object) -> tuple[int, int] | None:
    """The blocks that a file says it holds, if it is one of a raw table."""
    try:
        (only,) = described["ranges"]  # type: ignore[index]
        return int(only["numbers"]["start"]), int(only["numbers"]["end"])
    except (KeyError, TypeError, ValueError):
        return None
