"""What ``amp.connect`` was given: a configuration, a database or a solo environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ampd_ray.errors import ConfigError
from ampd_ray.log import redact

KINDS = (
    'a configuration file ("amp.toml"), a database ("postgresql://host/database") or the directory of a solo '
    'environment (".amp")'
)


@dataclass(frozen=True)
class ConfigFile:
    """Amp's TOML."""

    path: Path


@dataclass(frozen=True)
class DatabaseUrl:
    """A Postgres URL; directories come from elsewhere."""

    url: str


@dataclass(frozen=True)
class SoloDirectory:
    """A solo environment, which may not run."""

    path: Path


Target: TypeAlias = ConfigFile | DatabaseUrl | SoloDirectory


def target_of(given: str | Path | None, env: Mapping[str, str]) -> Target:
    """What ``given`` means; without it ``AMP_CONFIG``, ``AMP_DIR`` or ``./.amp``, as for the commands.

    Raises ``ConfigError``.
    """
    if given is None:
        return _by_default(env)
    text = str(given)
    if re.match(r"postgres(ql)?://", text):
        return DatabaseUrl(text)
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        return SoloDirectory(path)
    if path.is_file() or (path.suffix == ".toml" and "://" not in text):
        return ConfigFile(path)
    raise ConfigError(f"{redact(text)!r} is nothing to connect to: give {KINDS}; amp.local() makes a solo one")


def solo_directory(env: Mapping[str, str]) -> Path:
    """Where the solo environment is, or would be: ``AMP_DIR`` or ``./.amp``."""
    return Path(env.get("AMP_DIR") or ".amp").expanduser().absolute()


def _by_default(env: Mapping[str, str]) -> Target:
    if env.get("AMP_CONFIG"):
        return ConfigFile(Path(env["AMP_CONFIG"]).expanduser().absolute())
    directory = solo_directory(env)
    if directory.is_dir():
        return SoloDirectory(directory)
    raise ConfigError(f"which database? Give {KINDS}, or set AMP_CONFIG or AMP_DIR; amp.local() makes a solo one here")
