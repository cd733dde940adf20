"""What to extract next, and until where (``spec/data.md`` 4.1 to 4.3).

A *unit* is what one writer takes at a time: its blocks become files that are committed together for all its tables.
Many small units in ascending order make the readable prefix of every table grow steadily; a failed one costs little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from ampd_ray.chain.ranges import BlockRange, Span, merge, split
from ampd_ray.chain.segments import Segment
from ampd_ray.errors import JobFailed

UNIT_BYTES = 256 * 2**20  # of Parquet, all tables together
UNIT_BLOCKS = 2_000  # while the density is unknown; also the least that is worth a second writer
MAX_UNIT_BLOCKS = 250_000
UNITS_PER_PASS = 8  # for each writer; at the end of a pass writers wait for the last one

_END_BLOCK = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Unit:
    """A span that exactly these tables lack: fetched once, written to them, committed in one transaction."""

    span: Span
    tables: tuple[str, ...]


def plan(missing: Mapping[str, Sequence[Span]], *, unit_blocks: int) -> Iterator[Unit]:
    """Turn the missing spans of each table into ascending units of at most ``unit_blocks`` blocks.

    A unit ends where the set of lacking tables changes, and at gaps. Each stretch is cut evenly: no sliver at its end
    becomes a tiny file. No unit is made before it is asked for: a pass takes a few of what may be millions.
    """
    return (Unit(piece, tables) for stretch, tables in _stretches(missing) for piece in _even(stretch, unit_blocks))


def _stretches(missing: Mapping[str, Sequence[Span]]) -> Iterator[tuple[Span, tuple[str, ...]]]:
    """The longest spans, ascending, throughout which the same tables lack their blocks."""
    changes: dict[int, set[str]] = {}
    for table, spans in missing.items():
        for span in merge(spans):
            changes.setdefault(span.start, set()).add(table)
            changes.setdefault(span.end + 1, set()).add(table)
    lacking: set[str] = set()
    begin = 0
    for at in sorted(changes):
        if lacking:
            yield Span(begin, at - 1), tuple(table for table in missing if table in lacking)
        lacking ^= changes[at]
        begin = at


def _even(span: Span, most: int) -> Iterator[Span]:
    pieces = -(-len(span) // most)
    return split(span, -(-len(span) // pieces))


def unit_blocks(bytes_per_block: float | None, *, blocks: int | None = None, writers: int = 1) -> int:
    """How many blocks make a unit of about 256 MiB of files, if a block has come to ``bytes_per_block`` so far.

    Thousands in sparse history, few where blocks are large; 2,000 while nothing is known (None). With the number of
    ``blocks`` to do, no more than gives each of the ``writers`` a share, as long as a share is 2,000 blocks.
    """
    if bytes_per_block is None:
        return UNIT_BLOCKS
    size = max(1, int(min(MAX_UNIT_BLOCKS, UNIT_BYTES / bytes_per_block))) if bytes_per_block > 0 else MAX_UNIT_BLOCKS
    return size if blocks is None else min(size, max(-(-blocks // max(writers, 1)), UNIT_BLOCKS))


def one_pass(units: Iterable[Unit], *, density_known: bool, writers: int) -> list[Unit]:
    """The first of ``units``, as many as a pass should take: later ones are cut anew, by what has been measured."""
    return list(islice(units, writers * (UNITS_PER_PASS if density_known else 1)))


def after(head: int, hash_: bytes, network: str) -> Segment:
    """The block that will follow the head, as if it were registered.

    Next to the registered segments it shows where our branch is not the head's, even while both are equally high.
    """
    number = head + 1
    return Segment(file_id=0, range=BlockRange(network, number, number, hash=bytes(32), prev_hash=hash_), created_ns=0)


def is_relative(end_block: str | None) -> bool:
    """True if the end depends on the head of when it is asked."""
    return end_block is not None and (end_block == "latest" or end_block.startswith("-"))


def resolve_end(end_block: str | None, start: int, head: int | None) -> int | None:
    """The last block of a job (included), None for a job that follows the head; ask once, at the job's start.

    ``head`` is the latest (or finalized) block, None on an empty chain. An end that lies ahead is waited for. Raises
    JobFailed with step ``RESOLVE_END_BLOCK``: retryable where blocks have yet to come, else final
    (``spec/metadata-db.md`` 5.5).
    """
    if end_block is None:
        return None
    if end_block != "latest" and not _END_BLOCK.fullmatch(end_block):
        raise _failed(f'end block {end_block[:40]!r} is not a number, "-N" or "latest"')
    relative = is_relative(end_block)
    if relative and head is None:
        raise _failed(f"the chain has no block yet, so end block {end_block!r} means none", retryable=True)
    if end_block == "latest":
        assert head is not None
        if head < start:
            raise _failed(f"the head, block {head}, has not reached the start block {start}", retryable=True)
        return head
    end = (head or 0) + int(end_block) if relative else int(end_block)
    if end < start:
        meaning = f"{end_block!r} means block {end} at head {head}" if relative else f"{end}"
        raise _failed(f"end block {meaning}, which lies before the start block {start}; deploy with a later end")
    return end


def _failed(message: str, *, retryable: bool = False) -> JobFailed:
    return JobFailed(message, step="RESOLVE_END_BLOCK", retryable=retryable)
