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
from tests.fakes.terminal import CTRL_C, terminal

BLOCKS = 397  # by which its chain is told from those of other tests
COMMAND = [*AMPD, "demo", "--blocks", str(BLOCKS)]


@pytest.fixture
def place() -> Iterator[Path]:
    """Where temporary files go; short, since Ray puts sockets below it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


def env(place: Path) -> Mapping[str, str]:
    """An environment that leads elsewhere, if the demo let it."""
    return clean_env({"TMPDIR": str(place), "AMP_CONFIG": "/nowhere/amp.toml", "AMP_DIR": "/nowhere"})


def left_over(place: Path) -> list[object]:
    """What a demo did not clean up: its directory, and processes of it or its chain."""
    chains = [p for p in psutil.process_iter(["cmdline"]) if {"devnet", str(BLOCKS)} <= set(p.info["cmdline"] or ())]
    return [*place.glob("ampd-demo-*"), *processes_in(place), *chains]


def test_make_demo_is_this_command() -> None:
    assert re.search(r"^demo: .*\n\t@?\$\(BIN\)/ampd demo$", (REPO / "Makefile").read_text(), re.MULTILINE)


def test_it_extracts_reads_back_and_leaves_nothing(place: Path) -> None:
    with terminal(COMMAND, env(place)) as demo:
        code = demo.ends(within=150)
    said = demo.text()
    assert code == 0, said
    assert re.search(r"━ 100 % ", said)
    assert f"blocks    {BLOCKS} of {BLOCKS} (0 to {BLOCKS - 1})" in said
    assert "holes     none" in said
    assert re.search(r"^BLOCK NUM +TX INDEX +LOG INDEX +ADDRESS +TOPIC0\n1 +0 +0 +0x[0-9a-f]{12}… ", said, re.MULTILINE)
    proposed = re.findall(r"^    \S*ampd (.*)$", said, re.MULTILINE)
    assert [parse(line) for line in proposed] == ["devnet", "backfill", "list"]
    assert left_over(place) == []


def test_ctrl_c_while_it_starts_leaves_nothing(place: Path) -> None:
    with terminal(COMMAND, env(place)) as demo:
        demo.shows("starting Postgres, Ray and a worker")
        demo.type(CTRL_C)
        code = demo.ends(within=90)
    said = demo.text()
    assert (code, "interrupted" in said, "Traceback" in said) == (1, True, False), said
    assert left_over(place) == []
