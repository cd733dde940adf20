"""What a person sees of a job: a card of any width, drawn over on a terminal; plain lines elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.cli import painter
from ampd_ray.cli.card import Subject, card, flow, plain, text_of
from ampd_ray.cli.display import Display
from ampd_ray.cli.painter import Painter, erased, has_colours, is_live, styled
from ampd_ray.client.progress import Progress
from ampd_ray.metadb.statuses import JobStatus

SUBJECT = Subject(12, "_/mainnet", "mainnet", Span(15_000_000, 15_999_999), ("blocks", "transactions", "logs"), 250_000)
NOW = Progress(
    job_id=12,
    dataset="_/mainnet",
    status=JobStatus.RUNNING,
    phase="extracting",
    node_id="worker-1",
    age_secs=0.4,
    done=412_345,
    total=1_000_000,
    rows={"blocks": 162_345, "transactions": 23_456_789, "logs": 45_678_901},
    retries=3,
    rpc_requests=9_876,
    blocks_per_sec=432.1,
    rows_per_sec=69_298.035,
    requests_per_sec=38.2,
    limit="rpc",
    eta_secs=1361.0,
    holes=2,
)


def lines(now: Progress = NOW, width: int = 79, subject: Subject = SUBJECT, **more: float) -> list[str]:
    return [text_of(line) for line in card(subject, now, width, **more)]


def test_a_card_says_what_how_far_how_fast_what_limits_and_what_is_wrong() -> None:
    assert lines(secs=75) == [
        "_/mainnet  mainnet  blocks 15,000,000 to 15,999,999  job 12",
        "250,000 blocks were there before",
        "blocks            162,345 rows       162 rows/s",
        "transactions   23,456,789 rows    23,457 rows/s",
        "logs           45,678,901 rows    45,679 rows/s",
        "████████████████░░░░░░░░░░░░░░░░░░░░░░░░   41 %  412,345 of 1,000,000 blocks",
        "75 s  432 blocks/s  38 requests/s  ETA 22 min 41 s  limit: rpc  3 retries",
        "2 holes",
    ]


@pytest.mark.parametrize("width", [20, 37, 49, 59, 79, 119, 300])
@pytest.mark.parametrize("status", [JobStatus.SCHEDULED, JobStatus.RUNNING, JobStatus.STOPPING, JobStatus.FATAL])
def test_no_line_is_longer_than_the_terminal(width: int, status: JobStatus) -> None:
    subject = replace(SUBJECT, dataset="acme/" + "x" * 40)
    states = [NOW, replace(NOW, total=None), replace(NOW, age_secs=5000.0), Progress(12, "", status)]
    for now in states:
        shown = lines(replace(now, status=status), width, subject, unheard_secs=100.0)
        assert max(map(len, shown)) <= width


def test_a_name_of_others_draws_nothing_else() -> None:
    odd = replace(NOW, node_id="w\x1b[2J\n", age_secs=34.0)
    assert all(line.isprintable() for line in [*lines(odd), plain(SUBJECT, odd)])


def test_what_was_there_before_is_drawn_apart() -> None:
    bar = card(SUBJECT, NOW, 79)[5]
    assert [(len(text), style) for text, style in bar[:3]] == [(10, "cyan"), (6, "green"), (24, "dim")]


def test_before_its_node_has_a_plan_the_bar_shows_what_is_known() -> None:
    shown = lines(Progress(12, "_/mainnet", JobStatus.SCHEDULED))
    assert shown[-2:] == [
        "██████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░   25 %  250,000 of 1,000,000 blocks",
        "0 s  starting",
    ]


def test_a_job_that_follows_the_head_has_no_bar() -> None:
    subject = replace(SUBJECT, span=None, there_before=0)
    shown = lines(replace(NOW, total=None, eta_secs=None, limit="head"), subject=subject)
    assert shown[0] == "_/mainnet  mainnet  following the head  job 12"
    assert shown[-2:] == ["412,345 blocks", "0 s  432 blocks/s  38 requests/s  limit: head  3 retries  2 holes"]


@pytest.mark.parametrize(
    ("now", "unheard_secs", "told"),
    [
        (replace(NOW, age_secs=34.2), 0.0, "no word from worker-1 for 34 s  3 retries  2 holes"),
        (replace(NOW, age_secs=340.0), 0.0, "no word from worker-1 for 5 min 40 s  3 retries  2 holes"),
        (NOW, 12.3, "the database has not answered for 12 s  3 retries  2 holes"),
        (replace(NOW, status=JobStatus.STOPPED), 0.0, "stopped  3 retries  2 holes"),
        (replace(NOW, status=JobStatus.COMPLETED, holes=0, retries=0), 0.0, "completed"),
        (replace(NOW, retries=1, holes=1, rpc_requests=0), 0.0, "0 s  starting  1 retry  1 hole"),
    ],
)
def test_what_is_wrong_takes_the_place_of_rates(now: Progress, unheard_secs: float, told: str) -> None:
    assert lines(now, unheard_secs=unheard_secs)[-1] == told


def test_parts_flow_into_as_few_lines_as_they_need() -> None:
    parts = [("a" * 10, ""), ("b" * 8, "red"), ("c" * 30, ""), ("d", "")]
    assert [text_of(line) for line in flow(parts, 20)] == ["a" * 10 + "  " + "b" * 8, "c" * 19 + "…", "d"]


# -- away from a terminal ---------------------------------------------------------------------------------------------


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def logged(clock: Clock, *steps: tuple[float, Progress], quiet: bool = False) -> list[str]:
    """What a display writes to a file, given each state at its time."""
    stream = io.StringIO()
    with Display(stream, quiet=quiet, clock=clock).watching(SUBJECT) as update:
        for at, now in steps:
            clock.now = at
            update(now)
    return stream.getvalue().splitlines()


def test_a_log_gets_a_line_every_few_seconds_when_something_has_changed(clock: Clock) -> None:
    steps = [(at / 4, replace(NOW, done=412_345 + 1000 * min(at // 4, 12))) for at in range(100)]
    said = logged(clock, *steps)
    assert [line.split("  ")[0:2] for line in said] == [
        [" 41 %", "417,345 of 1,000,000 blocks"],
        [" 42 %", "422,345 of 1,000,000 blocks"],
        [" 42 %", "424,345 of 1,000,000 blocks"],
    ]


def test_a_log_gets_the_end_at_once_and_nothing_before_the_first_word(clock: Clock) -> None:
    over = replace(NOW, done=1_000_000, status=JobStatus.COMPLETED, holes=0, retries=0)
    assert logged(clock, (9.0, Progress(12, "", JobStatus.SCHEDULED)), (9.1, over), (9.2, over)) == [
        "100 %  1,000,000 of 1,000,000 blocks  completed"
    ]


def test_a_log_says_once_that_a_node_is_silent_and_that_the_database_was(clock: Clock) -> None:
    silent = [(10.0 + at, replace(NOW, age_secs=11.0 + at)) for at in range(9)]
    said = logged(clock, *silent, (60.0, NOW))
    assert said[0].endswith("no word from worker-1 for 11 s  3 retries  2 holes")
    assert said[1] == "the database answers again, after 42 s"
    assert said[2] == plain(SUBJECT, NOW)
    assert len(said) == 3


def test_quiet_is_quiet(clock: Clock) -> None:
    assert logged(clock, (9.0, NOW), (19.0, replace(NOW, done=999_999)), quiet=True) == []


# -- on a terminal ----------------------------------------------------------------------------------------------------


SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[io.TextIOWrapper, Callable[[str], str]]]:
    """A stream that is a terminal of 80 columns, and what was written to it since it was last asked, up to a text."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(painter, "EVERY_SECS", 3600.0)  # drawn when told to
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    with os.fdopen(slave, "w") as stream:

        def written(until: str) -> str:
            text = b""
            while not text.decode(errors="ignore").endswith(until):
                text += os.read(master, 65536)
            return text.decode()

        yield stream, written
    os.close(master)


def test_a_card_is_drawn_over_and_its_last_state_stays(
    tty: tuple[io.TextIOWrapper, Callable[[str], str]], clock: Clock
) -> None:
    stream, written = tty
    with Display(stream, clock=clock).watching(SUBJECT) as update:
        update(replace(NOW, status=JobStatus.COMPLETED))
    text = written(SHOW_CURSOR)
    assert text.startswith("\x1b[?25l")
    last = text.rsplit("\x1b[J", 1)[1]
    assert re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last).replace("\r", "").splitlines() == lines(
        replace(NOW, status=JobStatus.COMPLETED)
    )
    assert "\x1b[36m█" in last


def test_a_terminal_that_becomes_narrower_has_wrapped_what_is_to_be_erased(
    tty: tuple[io.TextIOWrapper, Callable[[str], str]],
) -> None:
    stream, written = tty
    with Painter(stream, lambda width: [[("x" * width, "")], [("y", "")]]):
        assert "x" * 79 + "\r\n" in written("y\r\n")
        termios.tcsetwinsize(stream.fileno(), (24, 40))
    assert written(SHOW_CURSOR).startswith("\x1b[3A\r\x1b[J" + "x" * 39 + "\r\n")


def test_a_terminal_that_does_not_know_its_size_is_taken_for_a_common_one(
    tty: tuple[io.TextIOWrapper, Callable[[str], str]],
) -> None:
    stream, written = tty
    termios.tcsetwinsize(stream.fileno(), (0, 0))
    with Painter(stream, lambda width: [[("x" * width, "")]]):
        assert written("x\r\n").endswith("x" * 79 + "\r\n")
    assert written(SHOW_CURSOR).startswith("\x1b[1A\r\x1b[J")


@pytest.mark.parametrize(("lengths", "columns", "rows"), [([], 80, 0), ([79, 0], 80, 2), ([79, 41, 40], 40, 5)])
def test_as_many_rows_are_erased_as_the_lines_take(lengths: list[int], columns: int, rows: int) -> None:
    assert erased(lengths, columns) == (f"\x1b[{rows}A\r\x1b[J" if rows else "\r\x1b[J")


def test_colours_are_off_when_asked_and_nothing_is_drawn_over_where_that_cannot_be(
    tty: tuple[io.TextIOWrapper, Callable[[str], str]],
) -> None:
    assert styled([("a", "red"), ("b", "")], has_colours({})) == "\x1b[31ma\x1b[0mb"
    assert styled([("a", "red"), ("b", "")], has_colours({"NO_COLOR": "1"})) == "ab"
    assert is_live(tty[0], {"TERM": "xterm"})
    assert not is_live(tty[0], {"TERM": "dumb"})
    assert not is_live(io.StringIO(), {"TERM": "xterm"})
