"""The three directories: where they are, whether they can be used (``spec/metadata-db.md`` 9.1)."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ampd_ray.config.keys import Settings
from ampd_ray.errors import ConfigError
from ampd_ray.log import redact

DIRECTORIES = {"data_dir": "data", "providers_dir": "providers", "manifests_dir": "manifests"}  # key → default
URL_SCHEMES = ("file", "s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss")


def locate(value: str, base: Path) -> str:
    """An absolute path, or an object store's URL with a trailing slash; ``ValueError`` says what is wrong.

    A relative path counts from ``base``, the config file's directory.
    """
    if not value.strip():
        raise ValueError("expected a path or a URL, got an empty text")
    scheme, _, rest = value.partition(":/")
    if scheme in URL_SCHEMES and not rest.startswith("/"):
        raise ValueError(f"expected {scheme}:// with two slashes, got {redact(value)}")
    if "://" not in value:
        return os.path.normpath(base / value)
    url = urlsplit(value)
    if url.scheme not in URL_SCHEMES:
        raise ValueError(f"expected a path or a URL with one of {', '.join(URL_SCHEMES)}, got {redact(value)}")
    if url.password or url.query:
        raise ValueError("credentials belong in AWS_*, GOOGLE_* or AZURE_* variables, not in the URL")
    if url.scheme != "file":
        return value.rstrip("/") + "/"
    if url.netloc not in ("", "localhost") or not url.path.startswith("/"):
        raise ValueError("expected file:///an/absolute/path")
    return os.path.normpath(unquote(url.path))


def local_path(location: str) -> Path | None:
    """The path of a local directory given as a path or a ``file://`` URL; None for an object store."""
    if "://" not in location:
        return Path(location)
    url = urlsplit(location)
    return Path(unquote(url.path)) if url.scheme == "file" else None


def check_directories(settings: Settings) -> None:
    """Raise :class:`ConfigError` unless the local directories exist and allow what a worker does with them."""
    problems = []
    for key in DIRECTORIES:
        path = local_path(getattr(settings, key))
        problem = _unusable(path, write=key == "data_dir") if path else None
        if problem:
            problems.append(f"{key}: {problem}")
    if problems:
        raise ConfigError("\n  ".join(["unusable directories:", *problems]), problems=problems)


def create_directories(settings: Settings) -> None:
    """Create the local directories: for solo mode only, since a typo in a shared configuration must not make one."""
    for key in DIRECTORIES:
        path = local_path(getattr(settings, key))
        try:
            if path:
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{key}: cannot create {path}: {error.strerror}") from error


def _unusable(path: Path, *, write: bool) -> str | None:
    try:
        if not path.exists():
            return f"the directory {path} does not exist; create it, or set another"
        if not path.is_dir():
            return f"{path} is not a directory"
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"
    if not os.access(path, os.R_OK | os.X_OK | (os.W_OK if write else 0)):
        return f"the directory {path} is not {'writable' if write else 'readable'} for this user"
    return None
