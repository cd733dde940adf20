"""A page as a reader follows it: its commands one by one, its Python in one session, and what they print."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from ampd_ray.cli.app import app
from tests.docs.pages import Fence, fences
from tests.fakes.ampd import clean_env

RPC = "http://127.0.0.1:8545"  # what pages call the devnet
COMMAND_SECS = 120


@dataclass
class Reader:
    """Follows pages in the directory ``place``; ``rpc`` is where the devnet of the pages really is.

    In a ``shell`` each command is a process, as a user's; else ``ampd`` is called here, which spares its start.
    """

    place: Path
    rpc: str
    shell: bool = False
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self, page: Path) -> None:
        """Run what can be run, in order, and compare what is shown below it with what it printed."""
        self.names = {"__name__": "__main__"}  # of this page
        for fence, shown in with_output(page):
            printed = self._run(fence)
            if shown is not None:
                assert_shown(shown, printed)

    def _run(self, fence: Fence) -> str:
        text = fence.text.replace(RPC, self.rpc)
        with contextlib.chdir(self.place):
            if fence.language == "python":
                return self._python(fence, text)
            if self.shell:
                return self._shell(fence, text)
            return "".join(self._called(fence, line) for line in text.splitlines())

    def _called(self, fence: Fence, line: str) -> str:
        command, *words = shlex.split(line, comments=True)
        if command != "ampd":
            return self._shell(fence, line)
        said = CliRunner().invoke(app, words, env=dict.fromkeys(os.environ.keys() - clean_env().keys()))
        assert said.exit_code == 0, f"{fence}: {line}\n{said.output}"
        return said.output

    def _shell(self, fence: Fence, script: str) -> str:
        path = f"{Path(sys.executable).parent}:{clean_env()['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False,
            timeout=COMMAND_SECS, env=clean_env({"PATH": path, "VIRTUAL_ENV": sys.prefix}),
        )  # fmt: skip
        assert done.returncode == 0, f"{fence}:\n{done.stdout}"
        return done.stdout

    def _python(self, fence: Fence, source: str) -> str:
        """As a notebook does it: the value of a last expression is printed."""
        module = ast.parse(source, str(fence))
        *before, last = module.body
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if isinstance(last, ast.Expr):
                exec(compile(ast.Module(before, []), str(fence), "exec"), self.names)
                value = eval(compile(ast.Expression(last.value), str(fence), "eval"), self.names)
                print(*([] if value is None else [value]))
            else:
                exec(compile(module, str(fence), "exec"), self.names)
        return printed.getvalue()


def with_output(page: Path) -> Iterator[tuple[Fence, Fence | None]]:
    """What runs, each with the ``text`` that stands next, which is what it prints."""
    found = [*fences(page), None]
    for fence, after in pairwise(found):
        if fence is not None and fence.language in ("sh", "python") and fence.runs:
            shown = after is not None and after.language == "text" and after.note != "example"
            yield fence, after if shown else None


def assert_shown(shown: Fence, printed: str) -> None:
    """Each line that is shown has its like among those printed, in the same order: with the same label."""
    rest = iter([label(line) for line in printed.splitlines()])
    for line in shown.text.splitlines():
        wanted = label(line)
        assert not wanted or wanted in rest, f"{shown}: nothing printed looks like {line!r}:\n{printed}"


def label(line: str) -> str:
    """The words of a line up to the first that differs from run to run; empty for a row of figures."""
    words = line.split()
    head = []
    for word in words:
        if not word.isascii() or re.search(r"[\d/]", word):
            break
        head.append(word)
    return " ".join(head[:3])
