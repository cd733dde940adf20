"""What an audit says about rows, chains and coverage, without a database or a file."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest

from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.segments import Segment, canonical_flags
from ampd_ray.cli.check import progress_text
from ampd_ray.cli.progress_line import ProgressLine
from ampd_ray.materialize.audit import Kind, Registered, of_chain, of_coverage, of_intent, of_tombstone
from ampd_ray.materialize.check import Progress
from ampd_ray.metadb.audit import IntentRow


def block_hash(number: int, branch: int) -> bytes:
    return hashlib.sha256(f"{number}/{branch}".encode()).digest()


def segment(file_id: int, text: str) -> Segment:
    """``spec/data.md`` 6.2: ``a-b/pq@t``."""
    numbers, _, rest = text.partition("/")
    branches, _, created = rest.partition("@")
    start, end = map(int, numbers.split("-"))
    parent = block_hash(start - 1, int(branches[0])) if start else bytes(32)
    return Segment(file_id, BlockRange("n", start, end, block_hash(end, int(branches[1])), parent), int(created or 0))


def table(*texts: str, flags: dict[int, bool | None] | None = None, queued: frozenset[int] = frozenset()) -> Any:
    """Files 1, 2 and so on, flagged as they should be but for ``flags``."""
    segments = [segment(number, text) for number, text in enumerate(texts, 1)]
    flagged = canonical_flags(segments) | (flags or {})
    return [Registered(s, f"file-{s.file_id}", flagged[s.file_id], s.file_id in queued) for s in segments]


def found(files: list[Registered]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.subject) for finding in of_chain("logs", files)]


@pytest.mark.parametrize(
    "texts",
    [
        (),
        ("0-2/00",),
        ("0-2/00", "3-5/00"),
        ("0-2/00", "3-5/01@1", "3-5/00"),
        ("0-9/00@1", "10-10/00@2", "11-11/11@3", "10-10/01@4"),
        ("0-999/00@5", "0-998/00@6", "999-1000/01@6"),
        ("0-4/00@1", "10-14/00@1"),
    ],
)
def test_a_sound_chain_has_no_finding(texts: tuple[str, ...]) -> None:
    assert found(table(*texts)) == []


def test_a_fork_above_the_chain_is_found_with_the_break_that_it_makes() -> None:
    assert found(table("0-9/00@1", "10-10/00@2", "11-11/11@3")) == [
        (Kind.CHAIN_BROKEN, "11..11"),
        (Kind.FORK, "11..11"),
    ]


def test_flags_are_held_against_the_chain() -> None:
    texts = ("0-2/00", "3-5/01@1", "3-5/00")
    assert found(table(*texts, flags={2: False})) == [(Kind.CANONICAL_FLAG, "file-2")]
    assert found(table(*texts, flags={2: None})) == []
    both = found(table(*texts, flags={3: True}))
    assert both == [(Kind.CANONICAL_FLAG, "file-3"), (Kind.OVERLAP, "3..5")]


def test_a_file_that_waits_for_deletion_must_be_off_the_chain() -> None:
    texts = ("0-2/00", "3-5/01@1", "3-5/00")
    assert found(table(*texts, queued=frozenset({3}))) == []
    assert found(table(*texts, queued=frozenset({1}))) == [(Kind.QUEUED_CANONICAL, "file-1")]


@pytest.mark.parametrize(
    ("start", "tables", "expected"),
    [
        (0, {}, []),
        (0, {"blocks": [], "logs": []}, []),
        (0, {"blocks": [(0, 9)], "logs": [(0, 9)]}, []),
        (5, {"blocks": [(5, 9)], "logs": [(5, 9)]}, []),
        (5, {"blocks": [(0, 9)], "logs": [(0, 9)]}, []),
        (0, {"blocks": [(5, 9)], "logs": [(5, 9)]}, [("hole", "blocks", "0..4"), ("hole", "logs", "0..4")]),
        (0, {"blocks": [(0, 9)], "logs": [(0, 3), (6, 9)]}, [("hole", "logs", "4..5")]),
        (0, {"blocks": [(0, 9)], "logs": [(0, 7)]}, [("tables_differ", "logs", "8..9")]),
        (0, {"blocks": [(0, 9)], "logs": []}, [("tables_differ", "logs", "0..9")]),
        (
            0,
            {"blocks": [(0, 2), (5, 9)], "logs": [(0, 7)]},
            [("hole", "blocks", "3..4"), ("tables_differ", "logs", "8..9")],
        ),
        (20, {"blocks": [(0, 9)], "logs": [(0, 9)]}, []),
    ],
)
def test_coverage(start: int, tables: dict[str, list[tuple[int, int]]], expected: list[tuple[str, str, str]]) -> None:
    spans = {table: [Span(*pair) for pair in pairs] for table, pairs in tables.items()}
    assert [(f.kind, f.table, f.subject) for f in of_coverage(start, spans)] == expected


def test_a_difference_says_who_has_the_blocks() -> None:
    tables = {"blocks": [Span(0, 9)], "transactions": [Span(0, 7)], "logs": [Span(0, 9)]}
    (finding,) = of_coverage(0, tables)
    assert "blocks 8..9 are in blocks and logs, but not here" in finding.message


@pytest.mark.parametrize(
    ("fields", "uploaded", "expected"),
    [
        ({"current": True, "live": True}, True, None),
        ({"current": True, "live": True}, False, None),
        ({"current": True}, True, "intent_abandoned"),
        ({}, True, "intent_superseded"),
        ({}, False, "intent_superseded"),
        ({"swept": True}, False, None),
        ({"swept": True}, True, "intent_superseded"),
        ({"registered": True}, True, "intent_fulfilled"),
        ({"registered": True, "current": True, "live": True}, True, "intent_fulfilled"),
    ],
)
def test_intents(fields: dict[str, bool], uploaded: bool, expected: str | None) -> None:
    state = {"swept": False, "current": False, "live": False, "registered": False} | fields
    finding = of_intent("logs", IntentRow("a.parquet", 1, **state), uploaded=uploaded)
    assert (finding and str(finding.kind)) == expected


def test_tombstones() -> None:
    left = of_tombstone("logs", "file:///d/a.parquet", registered=False, uploaded=True)
    assert (left.kind, left.subject) == (Kind.TOMBSTONE, "a.parquet")
    wrong = of_tombstone("logs", "file:///d/a.parquet", registered=True, uploaded=True)
    assert wrong.kind is Kind.TOMBSTONE_REGISTERED


# -- the progress line ------------------------------------------------------------------------------------------------


def test_progress_says_how_far_how_fast_and_how_long_still() -> None:
    text = progress_text(Progress(50, 200, 25_000_000, 100_000_000), 5.0)
    assert text == " 25 %  50 of 200 files  5.0 MB/s  ETA 15.0 s"
    assert progress_text(Progress(0, 200, 0, 100_000_000), 0.0) == "  0 %  0 of 200 files  0 B/s"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "quiet", "lines"), [(io.StringIO(), False, 20), (io.StringIO(), True, 0)])
def test_away_from_a_terminal_progress_is_a_line_every_few_seconds(
    stream: io.StringIO, quiet: bool, lines: int
) -> None:  # fmt: skip
    steps = iter(range(10_000))
    line = ProgressLine(stream, text=progress_text, quiet=quiet, clock=lambda: next(steps) / 8)
    for files in range(800):
        line.update(Progress(files, 800, files, 800))
    line.end()
    assert len(stream.getvalue().splitlines()) == lines
    assert "\r" not in stream.getvalue()


def test_on_a_terminal_it_is_one_line_that_goes_at_the_end() -> None:
    steps, stream = iter(range(1000)), Terminal()
    line = ProgressLine(stream, text=progress_text, clock=lambda: next(steps))
    for files in (1, 2):
        line.update(Progress(files, 2, files, 2))
    line.end()
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().count("\r") == 4
    assert stream.getvalue().rsplit("\r", 2)[1].strip() == ""
