"""``make demo``: the main job from end to end, on a terminal as a newcomer sees it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.fakes.ampd import AMPD, clean_env
from tests.fakes.command_line import parse
from tests.fakes.places import REPO
from tests.fakes.process import processes_in
from tests.fakes.solo import nothing_left_in
from tests.fakes.terminal import CTRL_C, Terminal, terminal

README = (REPO / "README.md").read_text()
# Lines that are the same on every machine.
STEADY = r"A chain of|\$ ampd devnet|blocks  |rows  |holes  |retries  |The first rows|BLOCK NUM|1  +\d"


@pytest.fixture
def place() -> Iterator[Path]:
    """Where temporary files go; short, since Ray puts sockets below it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory, nothing_left_in(Path(directory)):
        yield Path(directory)


def env(place: Path) -> Mapping[str, str]:
    """An environment that leads elsewhere, if the demo let it."""
    return clean_env({"TMPDIR": str(place), "AMP_CONFIG": "/nowhere/amp.toml", "AMP_DIR": "/nowhere"})


def family(demo: Terminal) -> list[psutil.Process]:
    """The processes that a demo has started by now."""
    children: list[psutil.Process] = psutil.Process(demo.process.pid).children(recursive=True)
    return children


def left_over(place: Path, started: list[psutil.Process]) -> list[object]:
    """What a demo did not clean up: its directory, and processes of it or its chain."""
    return [*place.glob("ampd-demo-*"), *processes_in(place), *(p for p in started if p.is_running())]


def test_make_demo_is_this_command() -> None:
    assert re.search(r"^demo: .*\n\t@?\$\(BIN\)/ampd demo$", (REPO / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.timeout(300)
def test_it_prints_what_the_readme_shows_and_leaves_nothing(place: Path) -> None:
    with terminal([*AMPD, "demo"], env(place)) as demo:
        demo.shows("starting Postgres, Ray and a worker")
        started = family(demo)
        code = demo.ends(within=150)
    said = demo.text()
    assert code == 0, said
    assert re.search(r"█  100 %  3,000 of 3,000 blocks", said)
    shown = re.search(r"^```text\n(A chain of .*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert shown is not None
    steady = [line for line in shown[1].splitlines() if re.match(STEADY, line)]
    assert len(steady) == 11
    assert [line for line in steady if line not in said.splitlines()] == []
    proposed = re.findall(r"^    \S*ampd (.*)$", said, re.MULTILINE)
    assert [parse(line) for line in proposed] == ["devnet", "backfill", "list"]
    assert len(started) >= 3
    assert left_over(place, started) == []


def test_ctrl_c_while_it_starts_leaves_nothing(place: Path) -> None:
    with terminal([*AMPD, "demo", "--blocks", "100"], env(place)) as demo:
        demo.shows("starting Postgres, Ray and a worker")
        started = family(demo)
        demo.type(CTRL_C)
        code = demo.ends(within=90)
    said = demo.text()
    assert (code, "interrupted" in said, "Traceback" in said) == (130, True, False), said
    assert left_over(place, started) == []
