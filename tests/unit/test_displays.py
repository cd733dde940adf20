"""The card of a job and the plot of its rates: what they say, and that they are sound whatever is true."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from importlib import import_module
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.client.displays import figures, stretches
from ampd_ray.client.displays.card import card_html, card_line, card_text
from ampd_ray.client.displays.plot import rates_svg, rates_text
from ampd_ray.client.progress import Progress, Rates, rates_of
from ampd_ray.metadb.progress import JobRate
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.shown_jobs import BEGAN, PROGRESSES, RATES, progress, rates

MOST_BYTES = 10_000
IDLE = {"blocks_per_sec": None, "rows_per_sec": None, "requests_per_sec": None, "limit": None, "eta_secs": None}


class Page(HTMLParser):
    """The text and the tags of a page; balanced, else it raises."""

    VOID = frozenset({"br", "img", "meta"})

    def __init__(self, html: str):
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.tags.add(tag)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.words))


def said(now: Progress) -> str:
    """The text of the HTML card."""
    return Page(card_html(now)).text


# -- the card -------------------------------------------------------------------------------------------------------


def test_a_running_job_says_how_far_how_fast_what_limits_and_how_long() -> None:
    for text in (said(progress()), card_text(progress())):
        for word in ("_/devnet", "running", "63.4 %", "1,902 of 3,000 blocks", "7 s left"):
            assert word in text
        for word in (
            "152",
            "12,346",
            "310",
            "rpc" if "limits" in text else "the RPC provider",
            "logs",
            "60,311",
            "2 retries",
        ):
            assert word in text
    assert card_line(progress()).count("\n") == 0


def test_without_its_style_a_card_still_reads_well() -> None:
    words = " ".join(re.sub("<style>.*?</style>|<[^>]*>", "", card_html(progress())).split())
    assert words.startswith("_/devnet job 42 running")
    assert "63.4 % 1,902 of 3,000 blocks 7 s left" in words
    assert "rows blocks 1,902 logs 60,311" in words


def test_tables_come_in_their_order_and_the_unknown_last() -> None:
    assert "rows  blocks 1  transactions 2  logs 3  more 4" in card_text(
        progress(rows={"more": 4, "logs": 3, "blocks": 1, "transactions": 2})
    )


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        ({"status": JobStatus.SCHEDULED, "phase": None, "done": 0, "total": None}, "scheduled"),
        ({"phase": "opening", "limit": None}, "starting"),
        ({"phase": "waiting", "limit": "head", "total": None}, "following the head"),
        ({"phase": "waiting", "limit": "head"}, "waiting for the head"),
        ({"phase": "waiting", "limit": "lease"}, "waiting"),
        ({"status": JobStatus.STOP_REQUESTED}, "stopping"),
        ({"status": JobStatus.STOPPED}, "stopped"),
        ({"status": JobStatus.COMPLETED, "done": 3000}, "complete"),
        ({"status": JobStatus.COMPLETED, "done": 2997, "holes": 3}, "complete but for 3 holes"),
        ({"status": JobStatus.ERROR}, "failed, to be tried again"),
        ({"status": JobStatus.FATAL}, "failed"),
    ],
)
def test_each_state_has_its_words(facts: dict[str, object], label: str) -> None:
    now = progress(**facts)
    assert label in said(now)
    assert label in card_text(now).splitlines()[0]
    assert label in card_line(now)


def test_a_failed_job_says_why_and_what_to_do() -> None:
    now = progress(status=JobStatus.FATAL, error="eth.example.org answered 401 <Unauthorized>", **IDLE)
    for text in (said(now), card_text(now)):
        assert "eth.example.org answered 401 <Unauthorized>" in text
        assert "ampd jobs retry 42" in text
    assert "<Unauthorized>" not in card_html(now)
    assert "left" not in card_text(now)


def test_holes_are_never_called_the_whole() -> None:
    now = progress(status=JobStatus.COMPLETED, done=2_999_999, total=3_000_000, holes=1, **IDLE)
    for text in (said(now), card_text(now)):
        assert "99.9 %" in text
        assert "100 %" not in text
        assert "job.retry(quarantined=True)" in text


def test_a_node_without_a_word_is_told_of_but_not_once_the_job_has_ended() -> None:
    assert "no word from node w1 for 34 s" in said(progress(age_secs=34.0))
    assert "no word" not in said(progress(age_secs=9.0))
    assert "no word" not in said(progress(age_secs=34.0, status=JobStatus.COMPLETED))


def test_a_job_that_follows_the_head_has_no_percentage() -> None:
    now = progress(total=None, limit="head", eta_secs=None)
    assert "%" not in said(now)
    assert "1,902 blocks" in said(now)


def test_an_ended_job_shows_its_means() -> None:
    now = progress(status=JobStatus.COMPLETED, done=3000, seconds=21.0, **IDLE)
    page = Page(card_html(now, rates(100.0, 200.0)))
    assert "150 blocks/s on average" in page.text
    assert "took 21 s" in page.text
    assert "svg" in page.tags


def test_the_means_of_a_resumed_job_are_those_of_the_run_whose_rows_it_shows() -> None:
    before, after = rates(10.0, 20.0), rates(100.0, 200.0)
    late = tuple(replace(each, at=each.at + timedelta(hours=1)) for each in after.samples)
    began, seconds = BEGAN + timedelta(hours=1), after.secs
    now = progress(status=JobStatus.COMPLETED, rows={"blocks": int(after.blocks)}, seconds=seconds, began=began, **IDLE)
    text = Page(card_html(now, replace(after, samples=(*before.samples, *late)))).text
    (mean,) = re.findall(r"([\d,.]+) blocks/s on average", text)
    assert now.rows["blocks"] / float(mean) == pytest.approx(seconds, rel=0.01)
    assert "on average" not in Page(card_html(now, before)).text


@settings(deadline=None)
@given(PROGRESSES, st.none() | RATES)
def test_a_card_is_sound_and_small_whatever_is_true(now: Progress, speed: Rates | None) -> None:
    html = card_html(now, speed)
    assert len(html.encode()) <= MOST_BYTES
    page = Page(html)
    assert page.tags <= {"div", "style", "b", "span", "i", "svg", "title", "path"}
    plain = replace(now, dataset="d", node_id="n", error="e", limit="l", rows={"t": 1})
    for text in (said(plain), card_text(plain), card_line(plain)):
        assert not {"nan", "inf", "None"} & set(text.replace(",", " ").split())
    assert len(card_text(now).encode()) <= MOST_BYTES
    assert all(line.isprintable() for line in card_text(now).split("\n"))
    assert card_line(now).isprintable()


# -- rates ------------------------------------------------------------------------------------------------------------


def test_rates_are_what_was_done_by_the_seconds_it_took() -> None:
    kept = [
        JobRate(5.0, 10, 400, 20, "rpc", BEGAN),
        JobRate(2.0, 0, 0, 1, None, BEGAN),
        JobRate(0.0, 9, 9, 9, None, BEGAN),
    ]
    found = rates_of(7, kept)
    assert [(each.secs, each.blocks_per_sec, each.rows_per_sec, each.requests_per_sec) for each in found.samples] == [
        (5.0, 2.0, 80.0, 4.0),
        (2.0, 0.0, 0.0, 0.5),
    ]
    assert (found.job_id, found.secs, found.blocks, found.rows, found.requests) == (7, 7.0, 10.0, 400.0, 21.0)


def test_rates_as_text_are_a_line_of_characters_with_their_means() -> None:
    text = str(Rates(42, [*rates(0.0, 50.0, 100.0).samples]))
    assert text == "job 42: ▁▅█ 50 blocks/s, 4,000 rows/s, 100 requests/s over 15 s; limited by rpc 100 %"
    assert str(Rates(42, [])) == "job 42: no rates are recorded yet"


def test_the_plot_names_its_axes_and_what_limited() -> None:
    picture = rates(*[100.0] * 50)._repr_html_()
    for word in ("blocks/s", "rows/s", "requests/s", "UTC", "17:42", "the RPC provider 100 %", "mean 100"):
        assert word in picture


def test_a_pause_is_a_gap() -> None:
    before, after = rates(10.0, 10.0).samples, rates(10.0, 10.0, 10.0).samples
    paused = Rates(42, [*before, *[replace(each, at=each.at + (BEGAN - BEGAN.replace(hour=16))) for each in after]])
    runs = stretches.pieces(stretches.stretches(paused.samples, 100))
    assert [len(run) for run in runs] == [2, 3]
    assert rates_svg(paused).count('class="l"') == 2 * 3


@settings(deadline=None)
@given(RATES, st.integers(1, 50))
def test_stretches_hold_all_that_was_done_and_are_few(speed: Rates, most: int) -> None:
    found = stretches.stretches(speed.samples, most)
    assert len(found) <= most
    assert all(a.end <= b.start + 1e-6 for a, b in pairwise(found))
    for name in ("secs", "blocks", "rows", "requests"):
        assert sum(getattr(stretch, name) for stretch in found) == pytest.approx(
            getattr(speed, name), rel=1e-3, abs=1e-3
        )


@settings(deadline=None)
@given(RATES)
def test_a_plot_is_sound_and_bounded(speed: Rates) -> None:
    html = rates_svg(speed)
    assert len(html) < 60_000
    page = Page(html)
    assert not {"nan", "inf", "None"} & set(page.text.replace(",", " ").split())
    if "<svg" in html:
        svg = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
        assert "nan" not in ElementTree.tostring(svg, encoding="unicode").lower().replace("lim", "")
    assert rates_text(speed).isprintable()


def test_a_long_history_makes_no_longer_plot() -> None:
    assert len(rates_svg(rates(*[float(at % 97) for at in range(2300)]))) < 60_000


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secs", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3661, "1 h 01 min"),
        (90_000, "1 d 1 h"),
        (float("inf"), "over a year"),
    ],
)
def test_durations(secs: float, said: str) -> None:
    assert figures.duration(secs) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.001, "0"),
        (0.083, "0.083"),
        (5, "5"),
        (5.25, "5.2"),
        (45.12, "45.1"),
        (12_345.6, "12,346"),
        (float("nan"), "?"),
    ],
)
def test_numbers(value: float, said: str) -> None:
    assert figures.number(value) == said


@pytest.mark.parametrize(
    ("nbytes", "said"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (10**9, "1.0 GB"), (10**16, "10,000.0 TB")]
)
def test_sizes(nbytes: int, said: str) -> None:
    assert figures.size(nbytes) == said


def test_nothing_short_of_the_whole_is_called_100_percent() -> None:
    assert [figures.share(part) for part in (0.0, 0.634, 0.99999, 1.0, 7.0)] == [
        "0.0 %",
        "63.4 %",
        "99.9 %",
        "100 %",
        "100 %",
    ]


def test_in_ipython_they_show_themselves_as_text_too() -> None:
    pretty: Any = import_module("IPython.lib.pretty").pretty
    assert pretty(progress()) == card_text(progress())
    assert pretty(rates(1.0)) == rates_text(rates(1.0))


def test_a_node_of_any_name_is_shown_as_text() -> None:
    waits = Progress(1, "d", JobStatus.SCHEDULED, node_id="<b>x</b>")
    page = Page(card_html(waits))
    assert "waits for node <b>x</b> to begin" in page.text
