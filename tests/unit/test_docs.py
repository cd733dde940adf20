"""The documentation agrees with the code: its generated pages, its tables of columns, its commands, its links."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from ray.dashboard.modules.job.cli import submit
from ray.scripts.scripts import get_auth_token, start

from ampd_ray.config import load_settings
from ampd_ray.datasets.evm.schemas import B20, B32, BINARY, BOOL, DECIMAL, I32, SCHEMAS, TEXT, TIMESTAMP, U32, U64
from tests.docs.pages import DOCS, README, anchors, fences, links, pages
from tests.docs.reference import GENERATED
from tests.fakes.command_line import parse, parse_script
from tests.fakes.places import REPO

NO_RUN_BLOCKS = 26  # what needs a cluster, systemd, or somebody else's node
TYPES = {
    U64: "uint64", U32: "uint32", I32: "int32", B32: "32 bytes", B20: "20 bytes", BINARY: "bytes", TEXT: "text",
    DECIMAL: "decimal(38)", BOOL: "bool", TIMESTAMP: "timestamp",
}  # fmt: skip


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_the_reference_is_that_of_the_code(path: Path) -> None:
    assert path.read_text() == GENERATED[path](), f"{path.relative_to(REPO)} is not up to date: run `make docs`"


@pytest.mark.parametrize("table", SCHEMAS)
def test_the_page_on_data_has_every_column_with_its_type(table: str) -> None:
    _, _, below = (DOCS / "data.md").read_text().partition(f"### {table}\n")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (yes|) *\|", below.partition("\n### ")[0], re.MULTILINE)
    assert rows == [(field.name, said(field.type), "yes" if field.nullable else "") for field in SCHEMAS[table]]


def said(kind: pa.DataType) -> str:
    """A type in the words of the page."""
    if pa.types.is_list(kind):
        return f"list of {said(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"({', '.join(f'`{field.name}` {said(field.type)}' for field in kind)})"
    return TYPES[kind]


def commands() -> list[tuple[str, str]]:
    return list(dict.fromkeys(
        (page.relative_to(REPO).as_posix(), line)
        for page in pages() for fence in fences(page, "sh") for line in joined(fence.text)
    ))  # fmt: skip


def joined(text: str) -> list[str]:
    """The lines of a script, those that go on put together; the text of a here-document is no command."""
    text = re.sub(r"(<<'(\w+)')\n.*?^\2$", r"\1", text.replace("\\\n", " "), flags=re.MULTILINE | re.DOTALL)
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_is_understood(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    match words:
        case ["ampd", *_]:
            parse(shlex.join(words[1 : words.index("|") if "|" in words else None]))
        case ["make", target]:
            subprocess.run(["make", "--dry-run", target], cwd=REPO, check=True, capture_output=True)
        case ["ray", "up", path]:
            assert (REPO / path).is_file()
        case ["ray", "exec", path, command]:
            assert (REPO / path).is_file()
            understood_on_the_head(shlex.split(command))
        case ["ray", "start", *options]:
            json.loads(start.make_context("ray start", options).params["resources"])
        case ["ray", "get-auth-token", *options, ">", "/dev/null"]:
            get_auth_token.make_context("ray get-auth-token", options)
        case ["ray", "job", "submit", *options]:
            told = submit.make_context("ray job submit", options).params
            json.loads(told["runtime_env_json"] or "{}")
            python, script, *arguments = told["entrypoint"]
            assert (python, told["working_dir"]) == ("python", "jobs")
            parse_script(script, *arguments)
        case [".", path]:
            assert path == ".venv/bin/activate"
        case ["export", _] | [
            "cat"
            | "curl"
            | "mkdir"
            | "rm"
            | "rsync"
            | "systemctl"
            | "sudo"
            | "pg_dump"
            | "git"
            | "cd"
            | "chmod"
            | "openssl"
            | "docker"
            | "kubectl",
            *_,
        ]:
            pass
        case _:
            pytest.fail(f"{page}: nobody checks this command: {line}")


def understood_on_the_head(words: list[str]) -> None:
    """A command that ``ray exec`` runs in the container of the head."""
    match words:
        case ["ray", "job", "list"]:
            pass
        case ["ray", "job", "submit", *options] if "--" in options:
            python, script, *arguments = options[options.index("--") + 1 :]
            assert (python, Path(script).parent.as_posix()) == ("python", "/opt/ampd-ray/jobs")
            parse_script(Path(script).name, *arguments)
        case _:
            pytest.fail(f"nobody checks this command: {words}")


def test_every_link_leads_somewhere() -> None:
    for page in pages():
        for target in links(page):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(found), f"{page.name}: {target}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, to_read = {README}, [README]
    while to_read:
        page = to_read.pop()
        for target in links(page):
            path = (page.parent / target.partition("#")[0]).resolve()
            if path.suffix == ".md" and path.is_file() and path not in reached:
                reached.add(path)
                to_read.append(path)
    assert set(pages()) <= reached


def test_what_is_not_run_says_why_and_is_little() -> None:
    notes = [fence.note for page in pages() for fence in fences(page) if fence.note.startswith("no-run: ")]
    assert all(len(note.removeprefix("no-run: ")) > 5 for note in notes)
    assert len(notes) == NO_RUN_BLOCKS


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_lines_fit(page: Path) -> None:
    text = page.read_text()
    for fence in fences(page):
        text = text.replace(fence.text, "")
    assert [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")] == []


def test_configuration_files_are_valid(tmp_path: Path) -> None:
    examples = [fence for page in pages() for fence in fences(page, "toml") if "metadata_db" in fence.text]
    assert examples
    for fence in examples:
        config = tmp_path / "amp.toml"
        config.write_text(fence.text)
        assert load_settings(config, {}).data_dir, str(fence)
