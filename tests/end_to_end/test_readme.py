"""The README holds: its commands are run or at least understood, its output is what they print, its keys exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ampd_ray as amp
from ampd_ray.cli import demo
from ampd_ray.config import load_settings
from ampd_ray.config.load import SCHEMA
from tests.fakes.ampd import AMPD, ampd, clean_env
from tests.fakes.command_line import parse
from tests.fakes.places import REPO
from tests.fakes.process import running
from tests.fakes.solo import nothing_left_in

README = (REPO / "README.md").read_text()
pytestmark = pytest.mark.timeout(300)
RPC = "http://127.0.0.1:8545"


def fenced(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def line_after(start: str) -> str:
    """The only command of the README that starts so."""
    (line,) = {line for block in fenced("sh") for line in block.splitlines() if line.startswith(start)}
    return line


COMMANDS = [line for block in fenced("sh") for line in block.splitlines()]


@pytest.mark.parametrize("line", dict.fromkeys(COMMANDS))
def test_every_command_is_understood(line: str) -> None:
    words = shlex.split(line)
    match words:
        case ["ampd", *_]:
            parse(line.removeprefix("ampd "))
        case ["make", target]:
            subprocess.run(["make", "--dry-run", target], cwd=REPO, check=True, capture_output=True)
        case ["ray", "up", path]:
            assert (REPO / path).is_file()
        case ["ray", "job", "submit", "--working-dir", ".", "--", "python", script, *arguments]:
            assert (REPO / script).is_file()
            parse(shlex.join([Path(script).stem, *arguments]))
        case [".", path]:
            assert path == ".venv/bin/activate"
        case ["export", setting]:
            assert setting == "AMP_CONFIG=amp.toml"
        case _:
            pytest.fail(f"nobody checks this command: {line}")


def test_the_configuration_file_is_valid(tmp_path: Path) -> None:
    (example,) = fenced("toml")
    config = tmp_path / "amp.toml"
    config.write_text(example)
    settings = load_settings(config, {})
    assert settings.data_dir == "/mnt/amp/data"


def test_every_key_of_the_table_exists() -> None:
    rows = re.findall(r"^\| (`[a-z`_., ]+`) \|", README, re.MULTILINE)
    keys = [key for row in rows for key in re.findall(r"`([a-z_.]+)`", row)]
    assert len(keys) > 12
    assert [key for key in keys if not SCHEMA.knows(tuple(key.split(".")))] == []
    assert load_settings(None, {"AMP_CONFIG_WRITER__BYTES": "1000000", "AMP_CONFIG_METADATA_DB_URL": "postgresql:///a"})


def test_every_link_into_the_repository_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (REPO / target).exists(), target


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("five-minutes")
    with nothing_left_in(directory):
        yield directory


@pytest.fixture(scope="module")
def rpc() -> Iterator[str]:
    """The chain that the README starts, on a free port."""
    words = shlex.split(line_after("ampd devnet"))[1:]
    with running([*AMPD, *words, "--port", "0"], r"LISTENING (\S+)") as ready:
        yield ready[1]


@pytest.fixture(scope="module")
def summary(place: Path, rpc: str) -> str:
    """What its backfill prints; the solo environment of the other commands is made by it."""
    line = line_after("ampd backfill --rpc http://127.0.0.1:8545")
    assert RPC in line
    said = ampd(*shlex.split(line.replace(RPC, rpc))[1:], cwd=place)
    assert said.code == 0, said.err
    return said.out


def test_the_first_backfill_prints_what_the_readme_shows(summary: str) -> None:
    shown = next(block for block in fenced("text") if "blocks    500 of 500" in block)
    labels = [line.split()[0] for line in summary.splitlines()]
    assert [line.split()[0] for line in shown.splitlines() if line][: len(labels)] == labels
    assert "blocks    500 of 500" in summary
    assert "holes     none" in summary


@pytest.mark.parametrize("start", ["ampd jobs list", "ampd jobs progress"])
def test_the_commands_after_it_show_its_job(summary: str, place: Path, start: str) -> None:
    line = line_after("ampd jobs progress 1") if start == "ampd jobs progress" else line_after(start)
    said = ampd(*shlex.split(line)[1:], cwd=place)
    assert said.code == 0, said.err
    assert "COMPLETED" in said.out


def test_the_check_finds_nothing(summary: str, place: Path) -> None:
    said = ampd(*shlex.split(line_after("ampd check"))[1:], cwd=place)
    assert said.code == 0, said
    assert re.search(r"^findings +none$", said.out, re.MULTILINE)


def test_the_python_of_the_readme_reads_its_files(summary: str, place: Path) -> None:
    (code,) = fenced("python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True, env=clean_env()
    )
    assert "block_num" in done.stdout
    with amp.inspect(place / ".amp") as client:
        assert client.scan("_/devnet", "blocks").count_rows() == 500


def test_the_demo_ends_with_the_commands_of_the_readme() -> None:
    after = [line.strip() for line in demo.NEXT.format(ampd="ampd").splitlines() if line.startswith("    ")]
    assert len(after) == 3
    assert set(after) <= set(COMMANDS)
