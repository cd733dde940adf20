"""How lists, times and errors look: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from ampd_ray.errors import AmpdError, DataFault, chain_of
from ampd_ray.log import redact


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Print ``rows``: all of their fields as JSON, or ``columns`` as an aligned table."""
    if as_json:
        typer.echo(json.dumps(list(rows), default=_plain))
        return
    if not rows:
        typer.echo(empty)
        return
    cells = [[name.upper().replace("_", " ") for name in columns]]
    cells += [[_text(row.get(name)) for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_object(fields: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: as JSON, or a line per field."""
    if as_json:
        typer.echo(json.dumps(fields, default=_plain))
        return
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        typer.echo(f"{name.ljust(width)}  {_text(value)}")


def print_error(error: AmpdError, *, as_json: bool = False) -> None:
    """The message, then the causes that it does not tell already, a line each, on stderr; or one JSON object there."""
    if as_json:
        print_failure(error.code, error.message, error.exit_code)
        return
    message, *causes = chain_of(error)
    typer.echo(f"error: {message}", err=True)
    told = message
    for cause in causes:
        line = one_line(redact(cause.strip().splitlines()[0]))
        if line.rpartition(": ")[2].rstrip(".") not in told:
            typer.echo(f"  caused by: {line}", err=True)
            told += line


def print_failure(code: str, message: str, exit_code: int) -> None:
    """What programs get on stderr for whatever went wrong, in one line."""
    typer.echo(json.dumps({"error": {"code": code, "message": message, "exit_code": exit_code}}), err=True)


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def duration(secs: float) -> str:
    """Seconds as people say them."""
    if secs < 100:
        return f"{secs:.1f} s"
    minutes, rest = divmod(int(secs), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def size(nbytes: float) -> str:
    """Bytes as people say them, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"


def one_line(text: str) -> str:
    """A text of others: nothing in it begins a line or tells a terminal what to do."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def without_advice(reason: str) -> str:
    """Why a block was set aside; what to do about all that were is said once."""
    return reason.removesuffix(f" {DataFault.ADVICE}")


def joined(values: Iterable[Any]) -> str:
    """Values in one cell."""
    return ", ".join(map(str, values))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping | list):
        return json.dumps(value, default=_plain)
    return one_line(str(value))


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
