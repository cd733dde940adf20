"""Coverage as SVG for notebooks: no script, text in the colour of its surroundings, so that any theme will do.

Kinds differ in colour and in pattern, and each stretch says in a tooltip which blocks it is.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from html import escape
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from ampd_ray.chain.ranges import Span
from ampd_ray.client.displays.strip import LACKING, Mark, strip
from ampd_ray.client.displays.words import WORDS, percent, spans_of

if TYPE_CHECKING:
    from ampd_ray.client.coverage import Coverage, TableCoverage

WIDTH, LEFT, BAR = 760, 96, 580  # pixels of the picture, left of the bars, of a bar
TOP, ROW, HIGH = 34, 28, 18  # of the title, of a row, of the bar in it
CELLS, FEWER_CELLS, MANY = 290, 100, 90  # of 2 and 5.8 pixels; with more stretches than MANY in a bar the larger ones
NARROW = 9  # pixels: here a hatch cannot be told from nothing
POINTED_AT = 30  # stretches in a bar: with more, an arrow at each narrow one would say nothing

BLUE, PALE, ORANGE, PURPLE = "#2f7fd1", "#9cc6f0", "#d55e00", "#a8328f"  # told apart by every kind of eye
PATTERNS = f"""<defs>
<pattern id="u-ID" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">\
<rect width="6" height="6" fill="{PALE}"/><rect width="2" height="6" fill="{BLUE}"/></pattern>
<pattern id="m-ID" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">\
<rect width="8" height="8" fill="{ORANGE}" fill-opacity=".1"/><rect width="1.5" height="8" fill="{ORANGE}"/></pattern>
<linearGradient id="p-ID" x2="0" y2="1"><stop offset=".5" stop-color="{ORANGE}"/>\
<stop offset=".5" stop-color="{BLUE}"/></linearGradient>
</defs>"""
FILLS = {
    Mark.VERIFIED: BLUE,
    Mark.UNVERIFIED: "url(#u-ID)",
    Mark.PART: "url(#p-ID)",
    Mark.QUARANTINED: PURPLE,
    Mark.MISSING: "url(#m-ID)",
}


def coverage_svg(coverage: Coverage) -> str:
    """The picture as an ``<svg>`` of at most some 50 kB; 760 pixels wide where there is room."""
    if coverage.end < coverage.start:
        return f"<p>{_title(coverage)}: no block from {coverage.start:,} on is there or asked for yet</p>"
    strips = {name: _strip(coverage, table) for name, table in coverage.tables.items()}
    body = [f'<text y="14" font-size="13">{_title(coverage)}</text>']
    for row, (name, table) in enumerate(coverage.tables.items()):
        body += _row(coverage, name, table, strips[name], TOP + row * ROW)
    bottom = TOP + len(strips) * ROW
    body += _axis(coverage, bottom)
    body += _legend({mark for marks in strips.values() for mark in marks}, bottom + 44)
    text = "\n".join([PATTERNS, *body])
    unique = hashlib.sha256(text.encode()).hexdigest()[:8]
    told = ", ".join(f"{name} {percent(table.blocks, _asked(coverage))}" for name, table in coverage.tables.items())
    height = bottom + 52
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'style="max-width:100%;height:auto" role="img" aria-label="{escape(f"Coverage: {told}")}" '
        'font-family="system-ui,sans-serif" font-size="12" fill="currentColor">\n'
        f"{text.replace('-ID', f'-{unique}')}\n</svg>"
    )


def _asked(coverage: Coverage) -> int:
    return coverage.end - coverage.start + 1


def _title(coverage: Coverage) -> str:
    return f"<tspan font-weight='600'>{escape(coverage.dataset)}</tspan> on {escape(coverage.network)}"


def _strip(coverage: Coverage, table: TableCoverage) -> list[Mark]:
    marks = strip(table, coverage.start, coverage.end, CELLS)
    many = sum(1 for _ in groupby(marks)) > MANY
    return strip(table, coverage.start, coverage.end, FEWER_CELLS) if many else marks


def _row(coverage: Coverage, name: str, table: TableCoverage, marks: list[Mark], top: int) -> Iterator[str]:
    asked, pixels = _asked(coverage), BAR / len(marks)
    ends = list(accumulate(len(list(run)) for _, run in groupby(marks)))
    yield f'<text y="{top + 13}">{escape(name)}</text>'
    for begin, end in zip([0, *ends], ends, strict=False):
        first, after = (-(-cell * asked // len(marks)) for cell in (begin, end))
        window = Span(coverage.start + first, coverage.start + after - 1)
        told = f"{name}: {_told(table, marks[begin], window)}"
        left, width = LEFT + begin * pixels, (end - begin) * pixels
        yield _stretch(marks[begin], left, width, top, told)
        if width < NARROW and len(ends) <= POINTED_AT and _alone(marks, begin, end):
            colour = PURPLE if marks[begin] is Mark.QUARANTINED else ORANGE
            yield f'<path d="M{left + width / 2 - 4:.5g} {top - 7}h8l-4 6z" fill="{colour}"/>'
    yield (
        f'<rect x="{LEFT}" y="{top}" width="{BAR}" height="{HIGH}" fill="none" stroke="currentColor" '
        'stroke-opacity=".35"/>'
    )
    yield f'<text x="{WIDTH}" y="{top + 13}" text-anchor="end">{escape(percent(table.blocks, asked))}</text>'


def _stretch(mark: Mark, left: float, width: float, top: int, told: str) -> str:
    fill = ORANGE if mark is Mark.MISSING and width < NARROW else FILLS[mark]
    return (
        f'<path d="M{left:.5g} {top}h{width:.5g}v{HIGH}h-{width:.5g}z" fill="{fill}">'
        f"<title>{escape(told)}</title></path>"
    )


def _alone(marks: list[Mark], begin: int, end: int) -> bool:
    """Whether these cells are a hole in what is covered, which is easily overlooked."""
    around = {*marks[max(0, begin - 1) : begin], *marks[end : end + 1]}
    return marks[begin] in {*LACKING, Mark.QUARANTINED} and around.isdisjoint(LACKING)


def _told(table: TableCoverage, mark: Mark, window: Span) -> str:
    """Which blocks a stretch is about, so that one need not guess from pixels."""
    if mark in {Mark.VERIFIED, Mark.UNVERIFIED}:
        spans = table.covered
    else:
        spans = table.quarantined if mark is Mark.QUARANTINED else table.missing
    inside = _within(spans, window) or spans  # it may be shown beside where it is
    word = WORDS[Mark.MISSING if mark is Mark.PART else mark]
    return f"{word}: {spans_of(inside, 3)} ({sum(map(len, inside)):,})"


def _within(spans: Sequence[Span], window: Span) -> list[Span]:
    """What ``intersect`` says, of spans that are merged already, without a look at each."""
    begin = bisect_left(spans, window.start, key=lambda span: span.end)
    end = bisect_right(spans, window.end, key=lambda span: span.start)
    return [Span(max(span.start, window.start), min(span.end, window.end)) for span in spans[begin:end]]


def _axis(coverage: Coverage, top: int) -> Iterator[str]:
    """The first and the last block in full, round numbers between them where there is room."""
    first, last = f"{coverage.start:,}", f"{coverage.end:,}"
    yield _tick(0, top, first, "start")
    if coverage.start == coverage.end:
        return
    yield _tick(BAR, top, last, "end")
    asked = _asked(coverage)
    step = _round_step(asked)
    for number in range((coverage.start // step + 1) * step, coverage.end, step):
        at = BAR * (number - coverage.start) / asked
        if 7 * len(first) + 30 < at < BAR - 7 * len(last) - 30:
            yield _tick(round(at, 1), top, f"{number:,}", "middle")


def _tick(at: float, top: int, label: str, anchor: str) -> str:
    x = LEFT + at
    return (
        f'<path d="M{x:g} {top - 6}v5" stroke="currentColor" stroke-opacity=".5"/>'
        f'<text x="{x:g}" y="{top + 11}" font-size="11" fill-opacity=".75" text-anchor="{anchor}">{label}</text>'
    )


def _round_step(asked: int) -> int:
    """1, 2 or 5 times a power of ten, so that four to nine of them fit."""
    power = int("1" + "0" * (len(str(max(1, asked // 5))) - 1))
    return next(power * times for times in (1, 2, 5, 10, 20) if power * times * 5 >= asked)


def _legend(used: set[Mark], top: int) -> Iterator[str]:
    x = LEFT
    for mark in Mark:
        if mark in used:
            yield (
                f'<rect x="{x}" y="{top - 10}" width="14" height="12" fill="{FILLS[mark]}" stroke="currentColor" '
                f'stroke-opacity=".35"/><text x="{x + 20}" y="{top}">{WORDS[mark]}</text>'
            )
            x += 44 + round(6.2 * len(WORDS[mark]))
