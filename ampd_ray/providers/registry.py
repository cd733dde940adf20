"""The provider files: who serves which network (``spec/data.md`` 2.1, 2.6).

One TOML file per provider, its stem is the name. Files are read anew at each call, so an edit holds for the next
job. A file that cannot be used is skipped with a reason: one bad provider must not stop the others.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampd_ray.config import local_path
from ampd_ray.datasets.names import provider_name
from ampd_ray.errors import ConfigError, InvalidName, NotFound, ProviderMissing, StoreError
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.provider import Extras, Price, ProviderConfig, reason

__all__ = [
    "ListedProvider",
    "ProviderConfig",
    "find",
    "find_by_name",
    "list_providers",
    "load_providers",
    "provider_file",
    "remove_provider",
    "usable",
    "write_provider",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListedProvider:
    """A provider file: its config, or the reason why it cannot be used."""

    name: str
    config: ProviderConfig | None
    error: str | None = None

    def describe(self) -> dict[str, Any]:
        """Facts for people and programs, without secrets."""
        config = self.config
        return {
            "name": self.name,
            "kind": config.kind if config else None,
            "network": config.network if config else None,
            "host": config.host if config else None,
            "error": self.error,
        }


def list_providers(directory: str) -> list[ListedProvider]:
    """All provider files by name. Raises ``StoreError`` if the directory cannot be read."""
    return list(_read_all(_local(directory)))


def load_providers(directory: str) -> list[ProviderConfig]:
    """The usable ones."""
    return [listed.config for listed in list_providers(directory) if listed.config]


def find(directory: str, kind: str, network: str) -> list[ProviderConfig]:
    """Those of ``kind`` that serve ``network``, unresolved."""
    return [config for config in load_providers(directory) if (config.kind, config.network) == (kind, network)]


def find_by_name(directory: str, name: str) -> ProviderConfig:
    """One provider, unresolved. Raises ``NotFound``, or ``ConfigError`` if its file cannot be used."""
    path = provider_file(directory, name)
    if not path.is_file():
        raise NotFound(f"there is no provider {name}; see `ampd providers list`", provider=name)
    listed = _read(path)
    if listed.config is None:
        raise ConfigError(f"{path.name}: {listed.error}", provider=name)
    return listed.config


def usable(
    directory: str, kind: str, network: str, env: Mapping[str, str] | None = None, *, name: str | None = None
) -> list[ProviderConfig]:
    """The providers of ``network`` whose variables are set, resolved, by name; with ``name`` that one and no other.

    Raises ``ProviderMissing`` with reasons if there is none.
    """
    reasons, found = [], []
    for config in find(directory, kind, network):
        if name is not None and config.name != name:
            continue
        try:
            resolved = config.resolved(os.environ if env is None else env)
            Endpoint.of(resolved)
        except ConfigError as error:
            where = f"{error.message} ({provider_file(directory, config.name)})"
            _warn_once(f"{where}; it is not used")
            reasons.append(where)
        else:
            found.append(resolved)
    if found:
        return found
    why = "; ".join(reasons) or f"add one: ampd providers add {name or 'NAME'} --network NETWORK --url URL"
    wanted = "" if name is None else f" named {name}"
    raise ProviderMissing(f"no usable {kind} provider{wanted} for network {network}: {why}", network=network)


def provider_file(directory: str, name: str) -> Path:
    """Where the file of a provider of this name is, or would be. Raises ``InvalidName``."""
    return _local(directory) / f"{provider_name(name)}.toml"


def remove_provider(directory: str, name: str) -> None:
    """Delete a provider's file. Raises ``NotFound`` if there is none, ``InvalidName`` or ``StoreError``."""
    path = provider_file(directory, name)
    try:
        path.unlink()
    except FileNotFoundError:
        raise NotFound(f"there is no provider {name} in {path.parent}; see `ampd providers list`") from None
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror}") from error


def write_provider(directory: str, name: str, keys: Mapping[str, Any], *, replace: bool = False) -> ProviderConfig:
    """Write a provider's file, readable for its owner only; ``keys`` as in the file, variables unresolved.

    The same settings again are no change. Raises ``InvalidName``, ``StoreError``, or ``ConfigError`` for bad keys
    and, without ``replace``, for a file of that name with other settings.
    """
    path = provider_file(directory, name)
    config = _parsed(name, keys)
    if path.exists() and _read(path).config == config:
        return config
    try:
        _put(path, _toml(config), replace=replace)
    except FileExistsError:
        raise ConfigError(f"provider {name} exists with other settings; --replace overwrites them") from None
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    return config


# -- reading ----------------------------------------------------------------------------------------------------


def _local(directory: str) -> Path:
    path = local_path(directory)
    if path is None:
        raise ConfigError("providers_dir: object stores are not supported yet; use a local directory")
    return path


def _read_all(directory: Path) -> Iterator[ListedProvider]:
    try:
        # A hidden file is one that is just being written, or an editor's.
        paths = sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise StoreError(f"cannot read providers_dir {directory}: {error.strerror}") from error
    for path in paths:
        if path.suffix == ".toml":
            listed = _read(path)
            if listed.error:
                _warn_once(f"provider file {path.name} is skipped: {listed.error}")
            yield listed
        else:
            _warn_once(f"provider file {path.name} is skipped: its name does not end in .toml")


def _read(path: Path) -> ListedProvider:
    try:
        keys = tomllib.loads(path.read_text("utf-8"))
        if "kind" not in keys:
            return ListedProvider(path.stem, None, "kind is missing" if keys else "the file is empty")
        return ListedProvider(path.stem, _parsed(path.stem, keys))
    except tomllib.TOMLDecodeError as error:
        problem = f"not valid TOML: {error}"
    except UnicodeDecodeError:
        problem = "not UTF-8 text"
    except (ConfigError, InvalidName) as error:
        problem = error.message
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    return ListedProvider(path.stem, None, problem)


def _parsed(name: str, keys: Mapping[str, Any]) -> ProviderConfig:
    """The config of a file's keys; those that we do not know are Amp's or a typo. Raises ``ConfigError``."""
    try:
        config = ProviderConfig(**{**keys, "name": provider_name(name)})
    except ValueError as error:
        raise ConfigError(f"provider {name}: {reason(error)}", provider=name) from None
    if "${" not in config.url.get_secret_value():
        Endpoint.of(config)
    ours = keys.get("ampd_ray", {})
    price = ours.get("price") or {}
    unknown = keys.keys() - ProviderConfig.model_fields.keys()
    unknown |= {f"ampd_ray.{key}" for key in ours.keys() - Extras.model_fields.keys()}
    unknown |= {f"ampd_ray.price.{key}" for key in price.keys() - Price.model_fields.keys()}
    for key in sorted(unknown):
        _warn_once(f"provider {name}: the key {key} has no effect; is it a typo?")
    return config


@functools.lru_cache(maxsize=1024)
def _warn_once(message: str) -> None:
    logger.warning(message)


# -- writing ----------------------------------------------------------------------------------------------------


def _toml(config: ProviderConfig) -> str:
    """The file's text. Strings are JSON strings, which TOML reads alike."""
    return "\n".join([*_lines(config.keys()), ""]).replace("\x7f", "\\u007f")


def _lines(keys: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """A table's keys, then the tables in it, since each heading ends the one before."""
    if path:
        yield from ("", f"[{'.'.join(path)}]")
    for key, value in keys.items():
        if not isinstance(value, Mapping):
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in keys.items():
        if isinstance(value, Mapping):
            yield from _lines(value, (*path, key))


def _put(path: Path, text: str, *, replace: bool) -> None:
    """Make the whole file appear at once; ``FileExistsError`` if it is there and may not be replaced."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
