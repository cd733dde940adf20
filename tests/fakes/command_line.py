"""The command line as typer knows it: all of its commands, and whether a line would be understood."""

from __future__ import annotations

import runpy
import shlex
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import typer

from ampd_ray.cli.app import app
from tests.fakes.places import REPO

ROOT: Any = typer.main.get_command(app)


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that lead to it, hidden ones left out; groups are gone into."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def parse(line: str) -> str:
    """Parse what follows ``ampd``, running nothing; the command's name. Raises typer's error for what is not one."""
    words = shlex.split(line, comments=True)
    context = ROOT.make_context("ampd", words)
    command: Any = ROOT
    while hasattr(command, "commands"):
        words = [*context._protected_args, *context.args]
        name, command, words = command.resolve_command(context, words)
        context = command.make_context(name, words, parent=context)
    return str(context.info_name)


def parse_script(name: str, *arguments: str) -> str:
    """The same for a script of ``jobs/``, with what it adds to its arguments."""
    with patch("ampd_ray.cli.app.app") as run, patch.object(sys, "argv", [name, *arguments]):
        runpy.run_path(str(REPO / "jobs" / name), run_name="__main__")
    return parse(shlex.join(run.call_args.args[0]))
