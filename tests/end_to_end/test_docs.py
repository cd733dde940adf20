"""The documentation works: what its pages tell to do is done, in one environment, and prints what they show."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import ampd_ray as amp
from ampd_ray.cli import demo
from tests.docs.pages import DOCS, README, fences, links
from tests.docs.running import Reader, assert_shown, with_output
from tests.fakes.ampd import AMPD
from tests.fakes.places import REPO
from tests.fakes.process import running
from tests.fakes.solo import nothing_left_in

QUICKSTART = DOCS / "quickstart.md"
INDEX = DOCS / "README.md"
TASKS = [DOCS / target for target in links(INDEX) if target.startswith("how-to/")]  # in the order of a reader
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Somebody who has started the chain of the quickstart, on a free port.

    A session keeps the solo environment of all pages running, so that only one has to start it.
    """
    place = tmp_path_factory.mktemp("docs")
    (line,) = {fence.text.strip() for fence in fences(QUICKSTART, "sh") if fence.note == "background"}
    with (
        nothing_left_in(place),
        running([*AMPD, *shlex.split(line)[1:], "--port", "0"], r"LISTENING (\S+)") as ready,
        amp.local(place / ".amp"),
    ):
        yield Reader(place, ready[1])


@pytest.fixture(scope="module")
def quickstart(reader: Reader) -> Reader:
    """The same after the quickstart, with which all other pages begin."""
    replace(reader, shell=True).follow(QUICKSTART)
    return reader


def test_the_quickstart_runs(quickstart: Reader) -> None:
    with amp.inspect(quickstart.place / ".amp") as client:
        assert client.scan("_/devnet", "blocks").count_rows() >= 500


@pytest.mark.parametrize("page", [README, *TASKS], ids=lambda page: page.stem)
def test_the_page_runs(quickstart: Reader, page: Path) -> None:
    quickstart.follow(page)


def test_output_that_nothing_prints_is_found(tmp_path: Path) -> None:
    page = REPO / "docs" / "quickstart.md"
    ran, shown = next((fence, shown) for fence, shown in with_output(page) if shown is not None)
    assert_shown(shown, shown.text)
    with pytest.raises(AssertionError, match="nothing printed looks like"):
        assert_shown(shown, ran.text)


def test_the_demo_ends_with_commands_of_the_quickstart() -> None:
    after = [line.strip() for line in demo.NEXT.format(ampd="ampd").splitlines() if line.startswith("    ")]
    shown = {line for fence in fences(QUICKSTART, "sh") for line in fence.text.splitlines()}
    assert len(after) == 3
    assert set(after) <= shown
