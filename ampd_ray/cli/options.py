"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ampd_ray.cli import completion
from ampd_ray.datasets import priority
from ampd_ray.errors import NotFound, UsageError

if TYPE_CHECKING:
    from ampd_ray.cli.display import Display
    from ampd_ray.client import Client
    from ampd_ray.config import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file (TOML); AMP_CONFIG if not given.", show_default=False),
]
PriorityOption = Annotated[
    int | None,
    typer.Option(
        "--priority",
        min=1,
        max=priority.MOST,
        help=f"Its share of a worker's extractors when other jobs want them too; {priority.PRIORITY} by default.",
    ),
]
AmpDirOption = Annotated[
    Path | None,
    typer.Option(
        "--amp-dir", help="Solo environment to use instead of a configuration; AMP_DIR, or ./.amp if it exists.",
        show_default=False,
    ),
]  # fmt: skip
DatasetArgument = Annotated[str, typer.Argument(help="NAMESPACE/NAME[@REVISION].", autocompletion=completion.datasets)]


def job_id(text: str) -> int:
    """A job's id as it is typed."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) < 2**63):
        raise typer.BadParameter(f"{text!r} is no job id: it is a number, see `ampd jobs list`")
    return int(text)


JobArgument = Annotated[
    int, typer.Argument(parser=job_id, metavar="JOB", help="The job's id.", autocompletion=completion.jobs)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

NewNetworkOption = Annotated[
    bool, typer.Option("--new-network", help="Take --network as it is, also if it looks like a known name misspelt.")
]


def network_name(network: str, new: bool) -> str:
    """``--network``; raises ``UsageError`` for what is probably a slip, since a new name makes a new dataset."""
    from ampd_ray.datasets.networks import misspelt

    meant = None if new else misspelt(network)
    if meant is not None:
        raise UsageError(f"--network {network}: did you mean {meant}? If not, insist with --new-network")
    return network


def remember_config(ctx: typer.Context, config: Path | None) -> None:
    """Keep the ``--config`` that stood before the command."""
    ctx.obj = {"config": config}


def config_path(ctx: typer.Context, config: Path | None) -> Path | None:
    """``--config`` from before or after the command, or ``AMP_CONFIG``."""
    before: Path | None = ctx.find_root().obj["config"]
    if before is not None and config is not None and before.absolute() != config.absolute():
        raise UsageError(f"--config was given twice with different values: {before} and {config}")
    given = config or before
    if given is not None:
        return given
    variable = os.environ.get("AMP_CONFIG")
    return Path(variable) if variable else None


def configured(ctx: typer.Context, config: Path | None) -> Settings:
    """The settings of a configuration that must be there."""
    from ampd_ray.config import load_settings

    path = config_path(ctx, config)
    if path is None:
        raise UsageError("this needs a configuration: give --config PATH, or set AMP_CONFIG")
    return load_settings(path, os.environ)


def solo_directory(amp_dir: Path | None) -> Path:
    """The solo environment's directory: ``--amp-dir``, ``AMP_DIR`` or ``./.amp``."""
    return (amp_dir or Path(os.environ.get("AMP_DIR") or ".amp")).expanduser().absolute()


def open_client(ctx: typer.Context, config: Path | None, amp_dir: Path | None) -> Client:
    """A session with the configured database, or with that of a solo environment; starts no worker."""
    from ampd_ray.client import Client, inspect

    if not is_solo(ctx, config, amp_dir):
        return Client(configured(ctx, config))
    directory = solo_directory(amp_dir)
    if amp_dir is None and not directory.exists():
        raise _no_environment(amp_dir)
    try:
        return inspect(directory)
    except NotFound:
        raise _no_environment(amp_dir) from None


def is_solo(ctx: typer.Context, config: Path | None, amp_dir: Path | None) -> bool:
    """True if a command is about a solo environment rather than a configured database."""
    return amp_dir is not None or config_path(ctx, config) is None


def start_solo(amp_dir: Path | None, display: Display) -> Client:
    """A session with a solo environment that works; it is made on first use."""
    from ampd_ray.client import local

    with display.waiting("starting Postgres, Ray and a worker"):
        return local(solo_directory(amp_dir))


@contextmanager
def workers_there(ctx: typer.Context, config: Path | None, amp_dir: Path | None, display: Display) -> Iterator[None]:
    """Within it a solo environment works, and it stays for what was scheduled there; other databases have theirs."""
    if not is_solo(ctx, config, amp_dir):
        yield
        return
    with start_solo(amp_dir, display):
        yield


def _no_environment(amp_dir: Path | None) -> UsageError:
    if amp_dir is not None:
        return UsageError(
            f"there is no solo environment in {amp_dir}: give the --amp-dir that `ampd backfill` was given, or make "
            "one there with the same option"
        )
    variable = os.environ.get("AMP_DIR")
    where = "./.amp" if not variable else f"{variable} (AMP_DIR)"
    return UsageError(
        f"there is no solo environment in {where}: run `ampd backfill` here, or go to where you ran it; or name one "
        "with --amp-dir DIR (AMP_DIR), or a configured database with --config PATH (AMP_CONFIG)"
    )


def again(ctx: typer.Context, command: str) -> str:
    """A command for a person to type next: ``ampd`` on the same database as the one that runs now.

    What the environment says (``AMP_CONFIG``, ``AMP_DIR``) still holds then, and is not repeated.
    """
    for name in ("amp_dir", "config"):
        given = ctx.params.get(name) or (ctx.find_root().obj["config"] if name == "config" else None)
        if given is not None:
            return f"ampd {command} --{name.replace('_', '-')} {shlex.quote(str(given))}"
    return f"ampd {command}"
