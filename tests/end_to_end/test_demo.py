"""``make demo``: the main job from end to end, on a terminal as a newcomer sees it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.fakes.ampd import AMPD, ampd, clean_env
from tests.fakes.bucket import Outside
from tests.fakes.command_line import parse
from tests.fakes.faulty_s3 import faulty_s3
from tests.fakes.object_stores import environment, moto
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
    assert re.search(
        r"^demo: .*\n\t@?\$\(BIN\)/ampd demo \$\(if \$\(DATA\),--data \$\(DATA\)\)$",
        (REPO / "Makefile").read_text(),
        re.MULTILINE,
    )


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


def test_it_keeps_its_files_in_an_object_store_and_removes_them(place: Path) -> None:
    with moto() as server, faulty_s3(server.endpoint) as proxy:
        command = [*AMPD, "demo", "--blocks", "100", "--data", server.url("mine")]
        with terminal(command, {**env(place), **environment(proxy.url)}) as demo:
            code = demo.ends(within=150)
        said, left = demo.text(), Outside(server).objects()
    assert code == 0, said
    assert re.search(r"^All files but the database's go to s3://blocks/mine/ampd-demo-[0-9a-f]{8}/ until", said)
    assert re.search(r"^The first rows of its logs, read with pyarrow from \d files:$", said, re.MULTILINE)
    assert proxy.requests["PUT"] >= 5  # three files, a manifest, a provider
    assert left == {}
    assert left_over(place, []) == []


def test_where_it_cannot_keep_files_it_does_not_begin() -> None:
    for data, said in (
        ("/tmp/here", "expected the URL of an object store, as s3://bucket/prefix"),
        ("http://bucket", "expected a path or a URL with one of file, s3"),
        ("s3://id:secret@bucket/x", "credentials belong in AWS_"),
    ):
        found = ampd("demo", "--data", data)
        assert (found.code, said in found.error, found.out) == (2, True, "")


def test_ctrl_c_while_it_starts_leaves_nothing(place: Path) -> None:
    with terminal([*AMPD, "demo", "--blocks", "100"], env(place)) as demo:
        demo.shows("starting Postgres, Ray and a worker")
        started = family(demo)
        demo.type(CTRL_C)
        code = demo.ends(within=90)
    said = demo.text()
    assert (code, "interrupted" in said, "Traceback" in said) == (130, True, False), said
    assert left_over(place, started) == []
