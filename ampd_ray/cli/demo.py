"""``ampd demo``: the main job from end to end, on a chain of its own, in a directory that is gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from ampd_ray.cli.output import print_rows
from ampd_ray.errors import AmpdError, UsageError

EXAMPLES = """\b
Examples:
  ampd demo
  ampd demo --blocks 500
  ampd demo --data s3://bucket/prefix     # with AWS_ACCESS_KEY_ID and its like set; GCS and Azure as well"""

ROWS = 3
LAST_LINES = 20
NEXT = """\

Try it yourself. A chain that grows (leave it running):

    {ampd} devnet --block-time 1

In a second terminal its first 1,000 blocks, into ./.amp, and what ran there:

    {ampd} backfill --rpc http://127.0.0.1:8545 --blocks 0:1000
    {ampd} jobs list"""


def demo(
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="Length of the chain.")] = 3000,
    data: Annotated[
        str | None, typer.Option("--data", metavar="URL", help="Keep files in this object store meanwhile.")
    ] = None,
) -> None:
    """Extract a local chain from end to end, and clean up again."""
    with (
        tempfile.TemporaryDirectory(prefix="ampd-demo-") as directory,
        nullcontext() if data is None else _in_object_store(Path(directory), data),
        _devnet(blocks) as url,
    ):
        _backfill(Path(directory), "--rpc", url, "--blocks", f"0:{blocks}", "--amp-dir", directory)
        _read(Path(directory))
    typer.echo(NEXT.format(ampd=_program()))


@contextmanager
def _in_object_store(directory: Path, data: str) -> Iterator[None]:
    """Have the demo in ``directory`` keep its files below ``data``, in a place of its own that is empty afterwards."""
    from ampd_ray.config.directories import DIRECTORIES, locate
    from ampd_ray.store.objects import open_objects

    try:
        place = locate(data, Path.cwd())
    except ValueError as error:
        raise UsageError(f"--data: {error}") from None
    if "://" not in place:
        raise UsageError(f"--data {data}: expected the URL of an object store, as s3://bucket/prefix")
    root = f"{place}ampd-demo-{secrets.token_hex(4)}/"
    lines = [f"{key} = {json.dumps(root + name)}\n" for key, name in DIRECTORIES.items()]
    (directory / "config.toml").write_text("".join(lines))
    store = open_objects(root)
    store.probe()
    typer.echo(f"All files but the database's go to {root} until the demo ends.\n")
    try:
        yield
    finally:
        store.clear()


@contextmanager
def _devnet(blocks: int) -> Iterator[str]:
    """``ampd devnet`` as a process; yields its address."""
    arguments = ["devnet", "--blocks", str(blocks), "--port", "0"]
    typer.echo(f"A chain of {blocks:,} blocks to extract:\n$ ampd {' '.join(arguments)}")
    process = subprocess.Popen(
        _command(*arguments),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the backfill, which still needs the chain
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said.startswith("LISTENING "):
            raise AmpdError("the devnet did not start")
        typer.echo(said)
        yield said.split()[1]
    finally:
        process.terminate()
        process.wait()


def _backfill(directory: Path, *arguments: str) -> None:
    """``ampd backfill`` as a process on this terminal; ends the demo with its exit code unless that is 0.

    Then it shows the end of the log, which goes with ``directory``.
    """
    from ampd_ray.client.solo_process import LOG_NAME

    typer.echo(f"Its blocks as Parquet:\n$ ampd backfill {' '.join(arguments)}")
    process = subprocess.Popen(_command("backfill", *arguments), env=_own_environment(os.environ))
    code = None
    while code is None:
        with contextlib.suppress(KeyboardInterrupt):  # it got the signal too, and ends by itself
            code = process.wait()
    if code:
        with contextlib.suppress(OSError):
            last = (directory / LOG_NAME).read_text(errors="replace").splitlines()[-LAST_LINES:]
            typer.echo("\n".join(["The log ends with:", *last]), err=True)
        raise typer.Exit(code)


def _read(directory: Path) -> None:
    """Show a few rows of what was committed."""
    from ampd_ray.client import inspect

    columns = ["block_num", "tx_index", "log_index", "address", "topic0"]
    with inspect(directory) as client:
        logs = client.scan("_/devnet", "logs")
        rows = logs.head(ROWS, columns=columns).to_pylist()
    typer.echo(f"\nThe first rows of its logs, read with pyarrow from {len(logs.files)} files:")
    shown = [{name: _short(value) for name, value in row.items()} for row in rows]
    print_rows(shown, columns, as_json=False, empty="there are none")


def _short(value: object) -> object:
    return f"0x{value.hex()[:12]}…" if isinstance(value, bytes) else value


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ampd_ray", *arguments]


def _own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would lead elsewhere than to the demo's own directory."""
    return {name: value for name, value in environment.items() if not name.startswith(("AMP_", "RAY_ADDRESS"))}


def _program() -> str:
    """What to type for ``ampd`` in this shell: its name, or its path if PATH does not lead there."""
    here = Path(sys.executable).with_name("ampd")
    found = shutil.which("ampd")
    if found and Path(found).resolve() == here.resolve():
        return "ampd"
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)
