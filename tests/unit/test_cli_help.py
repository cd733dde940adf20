"""What the command line says of itself: every command explains itself with examples that it understands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ampd_ray
from ampd_ray.cli.app import app
from tests.fakes.command_line import commands, parse

COMMANDS = {" ".join(path): command for path, command in commands()}
RUNS_ON = {"solo", "worker", "devnet", "demo"}  # everything else gives a result


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "AMP_CONFIG": None, "AMP_DIR": None})
    assert result.exit_code == 0, result.output
    return result.output


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_the_commands_are_those_of_the_first_release() -> None:
    assert set(COMMANDS) == {
        "backfill", "solo", "worker", "migrate", "deploy", "check", "verify", "demo", "devnet",
        "coverage", "sql", "head",
        "jobs list", "jobs show", "jobs watch", "jobs progress", "jobs events", "jobs holes", "jobs retry", "jobs stop",
        "jobs rm", "workers list", "datasets register", "datasets list", "datasets show", "providers add",
        "providers list", "providers show", "providers rm",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    text = said(*name.split(), "--help")
    assert re.search(rf"Usage: \S+ {name} ", text)
    assert "Examples:" in text
    assert f"ampd {name}" in text


@pytest.mark.parametrize(("name", "command"), COMMANDS.items())
def test_every_option_and_example_is_good(name: str, command: Any) -> None:
    for parameter in command.params:
        assert parameter.hidden or parameter.param_type_name == "argument" or parameter.help, parameter.name
    examples = re.findall(r"^  (?:[A-Z_]+=\S+ )*ampd (.*)$", command.epilog, re.MULTILINE)
    assert examples
    for example in examples:
        assert parse(example) == name.rsplit(maxsplit=1)[-1], example


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - RUNS_ON))
def test_what_gives_results_gives_them_as_json(name: str) -> None:
    assert "--json" in options(COMMANDS[name])


@pytest.mark.parametrize("group", ["", "jobs", "workers", "datasets", "providers"])
def test_groups_list_their_commands_with_a_sentence_each(group: str) -> None:
    text = said(*group.split(), "--help")
    below = [name.removeprefix(group).split()[0] for name in COMMANDS if name.startswith(group)]
    for name in below:
        assert re.search(rf"^  {name} +[A-Z].{{15,}}$", text, re.MULTILINE), name
    examples = re.findall(r"^ {4,}ampd (.*)$", text, re.MULTILINE)
    assert examples
    for example in examples:
        parse(example)


def test_help_starts_with_the_demo() -> None:
    assert "ampd demo" in said("--help")


def test_version() -> None:
    assert said("--version") == f"ampd-ray {ampd_ray.__version__}\n"


def write(path: Path) -> Path:
    path.write_text(f'data_dir = 1\n[metadata_db]\nurl = "postgresql://127.0.0.1/{path.stem}"\n')
    return path


def refusal(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"AMP_CONFIG": None, "AMP_DIR": None})
    return result.exit_code, result.stderr


def test_the_configuration_may_stand_before_and_after_the_command(tmp_path: Path) -> None:
    config = write(tmp_path / "a.toml")
    lines = [f"--config {config} jobs list", f"jobs list -c {config}", f"--config {config} jobs list --config {config}"]
    for line in lines:
        code, err = refusal(*line.split())
        assert code == 1
        assert str(config) in err  # it was read: one key of it is wrong


@pytest.mark.parametrize("command", ["jobs list", "worker --node-id w", "migrate", "workers list", "deploy _/a"])
def test_two_different_configurations_are_wrong_usage(tmp_path: Path, command: str) -> None:
    one, two = write(tmp_path / "a.toml"), write(tmp_path / "b.toml")
    code, err = refusal("--config", one, *command.split(), "--config", two)
    assert code == 2
    assert str(one) in err
    assert str(two) in err


def test_help_needs_nothing_that_is_slow_to_import() -> None:
    code = (
        "import sys; from ampd_ray.cli.app import app; app(['--help'], standalone_mode=False)\n"
        "print(*{'ray', 'pyarrow', 'psycopg', 'aiohttp', 'numpy', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []
