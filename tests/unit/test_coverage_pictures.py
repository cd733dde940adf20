"""Pictures of coverage: nothing that is there is too small to be seen, and nothing is seen that is not there."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ampd_ray.chain.ranges import Span, intersect, merge, subtract
from ampd_ray.client.coverage import Coverage, TableCoverage
from ampd_ray.client.displays.coverage import COLOURS, GLYPHS, coverage_text
from ampd_ray.client.displays.coverage_svg import coverage_svg
from ampd_ray.client.displays.strip import Mark, strip
from ampd_ray.client.displays.words import WORDS, percent, spans_of

BLUE_ORANGE_PURPLE = {"#2f7fd1", "#d55e00", "#a8328f"}


def table(start: int, end: int, covered: list[Span], unverified: list[Span], aside: list[Span]) -> TableCoverage:
    """As the database tells it."""
    window = Span(start, end)
    there = intersect(covered, window)
    quarantined = subtract(intersect(aside, window), there)
    return TableCoverage(
        there,
        [piece for span in there for piece in intersect(unverified, span)],
        quarantined,
        subtract(subtract(window, there), quarantined),
    )


def one(end: int, *covered: Span, start: int = 0) -> Coverage:
    return Coverage("_/devnet", "devnet", start, end, {"logs": table(start, end, [*covered], [], [])})


def bars(text: str) -> list[str]:
    glyphs = "".join(GLYPHS.values())
    return [found[1] for line in text.splitlines() if (found := re.match(rf"\w+ +([{glyphs}]+)  [<\d.]+ %$", line))]


@st.composite
def coverages(draw: st.DrawFn) -> Coverage:
    start = draw(st.sampled_from([0, 15_000_000, 2**40]))
    blocks = draw(st.sampled_from([1, 2, 7, 60, 200, 10_000_000]) | st.integers(1, 10_000))
    end = start + blocks - 1
    number = st.integers(start, end)
    span = st.tuples(number, st.sampled_from([1, 1, 5, blocks // 3 + 1, blocks])).map(
        lambda pair: Span(pair[0], min(end, pair[0] + pair[1] - 1))
    )
    spans = st.lists(span, max_size=6).map(merge)
    names = draw(st.sampled_from([["logs"], ["blocks", "logs"], ["blocks", "transactions", "logs"]]))
    tables = {name: table(start, end, draw(spans), draw(spans), draw(spans)) for name in names}
    return Coverage("acme/eth", "mainnet", start, end, tables)


def kinds(found: TableCoverage) -> dict[str, bool]:
    verified = subtract(found.covered, found.unverified)
    return {
        "verified": bool(verified),
        "unverified": bool(found.unverified),
        "quarantined": bool(found.quarantined),
        "missing": bool(found.missing),
    }


def shown(marks: set[Mark]) -> dict[str, bool]:
    return {
        "verified": Mark.VERIFIED in marks,
        "unverified": Mark.UNVERIFIED in marks,
        "quarantined": Mark.QUARANTINED in marks,
        "missing": not marks.isdisjoint({Mark.MISSING, Mark.PART}),
    }


@settings(max_examples=300, deadline=None)
@given(coverages(), st.integers(10, 300))
def test_every_kind_is_seen_at_any_width_and_no_other(coverage: Coverage, cells: int) -> None:
    for found in coverage.tables.values():
        marks = strip(found, coverage.start, coverage.end, cells)
        assert len(marks) == min(cells, coverage.end - coverage.start + 1)
        assert shown(set(marks)) == kinds(found)


@settings(max_examples=200, deadline=None)
@given(coverages(), st.integers(40, 200))
@example(Coverage("_/x", "x", 10**15, 10**15 + 7, {"transactions": table(10**15, 10**15 + 7, [], [], [])}), 40)
def test_lines_fit_and_say_what_their_marks_mean(coverage: Coverage, width: int) -> None:
    text = coverage_text(coverage, width)
    assert all(len(line) <= width for line in text.splitlines()), text
    drawn = bars(text)
    assert len(drawn) == len(coverage.tables)
    assert len({len(bar) for bar in drawn}) == 1
    used = {mark for mark in Mark if any(GLYPHS[mark] in bar for bar in drawn)}
    legend = text.splitlines()[-2:]
    for mark in Mark:
        assert (f"{GLYPHS[mark]} {WORDS[mark]}" in "\n".join(text.splitlines()[-4:])) == (mark in used), legend
    painted = coverage_text(coverage, width, colour=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", painted) == text
    assert ("\x1b[" in painted) == bool(used)


@settings(max_examples=100, deadline=None)
@given(coverages())
def test_svg_is_sound_and_tells_each_stretch(coverage: Coverage) -> None:
    svg = coverage_svg(coverage)
    root = ET.fromstring(svg)
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    for name, found in coverage.tables.items():
        of_table = " ".join(title for title in titles if title.startswith(f"{name}: "))
        for kind, there in kinds(found).items():
            assert not there or (kind if kind != "unverified" else "not verified") in of_table
    assert len(svg) < 50_000


def test_one_missing_block_of_ten_millions_is_pointed_at() -> None:
    coverage = one(9_999_999, Span(0, 4_999_999), Span(5_000_001, 9_999_999))
    text = coverage_text(coverage, 60)
    assert bars(text) == ["█" * 22 + "▄" + "█" * 22]
    assert "99.99 %" in text
    svg = coverage_svg(coverage)
    assert "logs: missing: 5,000,000 (1)" in svg
    assert svg.count('l-4 6z"') == 1  # an arrow


def test_a_kind_that_shares_its_cell_is_shown_beside_it() -> None:
    found = table(0, 9_999_999, [Span(10, 19)], [Span(15, 19)], [Span(20, 20)])
    assert set(strip(found, 0, 9_999_999, 60)[:4]) == {Mark.VERIFIED, Mark.UNVERIFIED, Mark.QUARANTINED, Mark.MISSING}


def test_a_picture_of_more_holes_than_pixels_stays_small() -> None:
    start = 2**60
    spans = [Span(start + 20 * n, start + 20 * n + 9) for n in range(50)]
    tables = {name: table(start, start + 999, spans, [], []) for name in ("blocks", "transactions", "logs")}
    svg = coverage_svg(Coverage("_/x", "x", start, start + 999, tables))
    assert svg.count("<title>") == 3 * 100
    assert len(svg) < 50_000
    spans = [Span(10 * n, 10 * n + 8 - n % 3) for n in range(20_000)]
    holes = TableCoverage(spans, spans[::2], [], subtract(Span(0, 199_999), spans))
    assert len(coverage_svg(Coverage("_/x", "x", 0, 199_999, {"logs": holes}))) < 50_000


def test_names_are_text_and_never_markup() -> None:
    found = table(0, 9, [Span(0, 9)], [], [])
    svg = coverage_svg(Coverage("a/<script>", "<b>&", 0, 9, {"x<y": found}))
    assert "<script>" not in svg
    assert "<b>" not in svg
    ET.fromstring(svg)
    assert "<b>" not in coverage_svg(Coverage("a/<script>", "<b>&", 0, -1, {}))


def test_it_shows_itself() -> None:
    coverage = one(9, Span(0, 4))
    assert repr(coverage) == str(coverage)
    assert coverage._repr_html_().startswith("<svg")
    assert BLUE_ORANGE_PURPLE > set(re.findall(r'<path d[^>]*fill="(#[0-9a-f]+)"', coverage._repr_html_())) != set()


def test_no_two_kinds_look_alike() -> None:
    assert len(set(GLYPHS.values())) == len(set(COLOURS.values())) == len(set(WORDS.values())) == len(Mark)


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [(0, 7, "0 %"), (7, 7, "100 %"), (1, 2, "50 %"), (1, 3, "33.33 %"), (9_999_999, 10_000_000, "99.99 %"),
     (1, 10_000_000, "<0.01 %"), (999, 1000, "99.9 %")],
)  # fmt: skip
def test_a_share_is_not_rounded_to_all_or_nothing(part: int, whole: int, told: str) -> None:
    assert percent(part, whole) == told


def test_spans_are_told_in_short() -> None:
    assert spans_of([Span(5, 5), Span(1000, 2000)]) == "5, 1,000 to 2,000"
    assert spans_of([Span(n, n) for n in range(0, 20, 2)], 2) == "0, 2 and 8 more"
