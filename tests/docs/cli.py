"""``docs/reference/cli.md``: every command as typer knows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.docs.markdown import fence, page, table
from tests.fakes.command_line import ROOT, commands

INTRODUCTION = """\
All commands, as `ampd COMMAND --help` shows them. A command finds its database by `--config` (or `AMP_CONFIG`),
which may stand before the command too, else it uses the solo environment of `--amp-dir` (or `AMP_DIR`), else that
in `./.amp`. Results go to stdout, progress and errors to stderr. An error is one line, `error: …`, and its causes;
with `--json` it is an object, `{"error": {"code": …, "message": …, "exit_code": …}}`, with a code of
[these](errors.md). Exit codes: 0 done, 1 an error, 2 wrong usage, 3 a name or directory in use. Before the command
`--no-color` (or `NO_COLOR`) leaves colours out, `--install-completion` lets the shell complete commands, datasets,
jobs and providers, and `--version` is the version."""


def cli_page() -> str:
    """The page."""
    return page("The command line", INTRODUCTION, [_overview(), *_commands()])


def _overview() -> str:
    """The commands by what they are for."""
    panels: dict[str, list[list[str]]] = {}
    for path, command in commands():
        name = " ".join(("ampd", *path))
        row = [f"[`{name}`](#{'-'.join(name.split())})", _sentence(command)]
        panels.setdefault(ROOT.commands[path[0]].rich_help_panel or "Others", []).append(row)
    return "\n\n".join(table([panel, "Meaning"], rows) for panel, rows in panels.items())


def _sentence(command: Any) -> str:
    return str(command.help).strip().split("\n\n", maxsplit=1)[0].replace("\n", " ")


def _commands() -> Iterator[str]:
    for path, command in commands():
        context = command.make_context(path[-1], [], resilient_parsing=True, parent=_root())
        parameters = [each for each in command.params if not getattr(each, "hidden", False)]
        arguments = [each for each in parameters if each.param_type_name == "argument"]
        words = ["ampd", *path, *(each.name.upper() for each in arguments), "[OPTIONS]"]
        yield f"## ampd {' '.join(path)}"
        yield str(command.help).strip()
        yield fence("text", " ".join(words))
        yield table(["Option", "Meaning"], (_option(each, context) for each in parameters))
        yield from _epilog(command.epilog or "")


def _root() -> Any:
    return ROOT.make_context("ampd", [], resilient_parsing=True)


def _option(parameter: Any, context: Any) -> tuple[str, str]:
    spelled, text = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        spelled = parameter.name.upper()
    return f"`{spelled}`", text.replace("  [", " [")


def _epilog(text: str) -> Iterator[str]:
    """The examples as commands, then what else is said."""
    for part in text.split("\b\n"):
        head, _, rest = part.strip().partition("\n")
        if head == "Examples:":
            yield fence("sh", "\n".join(line.strip() for line in rest.splitlines()))
        elif head:
            yield part.strip()
