"""The provider files: who serves which network (``spec/data.md`` 2.1, 2.6).

One TOML file per provider, its stem is the name. Files are read anew at each call, so an edit holds for the next
job. A file that cannot be used is skipped with a reason: one bad provider must not stop the others.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ampd_ray.config import local_path
from ampd_ray.datasets.names import provider_name
from ampd_ray.errors import (
    ConfigError,
    InvalidName,
    NotFound,
    ObjectExists,
    ObjectMissing,
    ProviderMissing,
    StoreError,
    StoreUnavailable,
)
from ampd_ray.providers.endpoint import Endpoint
from ampd_ray.providers.provider import Extras, Price, ProviderConfig, reason
from ampd_ray.store.files import Store, open_store

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
    path = local_path(directory)
    if path is not None and not path.is_dir():
        raise StoreError(f"cannot read providers_dir {path}: there is no such directory; create it, or set another")
    return list(_read_all(_opened(directory)))


def load_providers(directory: str) -> list[ProviderConfig]:
    """The usable ones."""
    return [listed.config for listed in list_providers(directory) if listed.config]


def find(directory: str, kind: str, network: str) -> list[ProviderConfig]:
    """Those of ``kind`` that serve ``network``, unresolved."""
    return [config for config in load_providers(directory) if (config.kind, config.network) == (kind, network)]


def find_by_name(directory: str, name: str) -> ProviderConfig:
    """One provider, unresolved. Raises ``NotFound``, or ``ConfigError`` if its file cannot be used."""
    file = f"{provider_name(name)}.toml"
    try:
        listed = _read(_opened(directory), file)
    except ObjectMissing:
        raise NotFound(f"there is no provider {name}; see `ampd providers list`", provider=name) from None
    if listed.config is None:
        raise ConfigError(f"{file}: {listed.error}", provider=name)
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
            endpoint = Endpoint.of(resolved)
        except ConfigError as error:
            where = f"{error.message} ({provider_file(directory, config.name)})"
            _warn_once(f"{where}; it is not used")
            reasons.append(where)
        else:
            found.append(resolved)
            if endpoint.tells_secrets:
                _warn_once(f"provider {config.name}: its token can be read on the way to {endpoint.host}; use https")
    if found:
        return found
    why = "; ".join(reasons) or f"add one: ampd providers add {name or 'NAME'} --network NETWORK --url URL"
    wanted = "" if name is None else f" named {name}"
    raise ProviderMissing(f"no usable {kind} provider{wanted} for network {network}: {why}", network=network)


def provider_file(directory: str, name: str) -> str:
    """Where the file of a provider of this name is, or would be: a path or a URL. Raises ``InvalidName``."""
    return f"{str(local_path(directory) or directory).rstrip('/')}/{provider_name(name)}.toml"


def remove_provider(directory: str, name: str) -> None:
    """Delete a provider's file. Raises ``NotFound`` if there is none, ``InvalidName`` or ``StoreError``."""
    store, file = _opened(directory), f"{provider_name(name)}.toml"
    if not store.exists(file):
        raise NotFound(f"there is no provider {name} in {directory}; see `ampd providers list`")
    store.delete(file)


def write_provider(directory: str, name: str, keys: Mapping[str, Any], *, replace: bool = False) -> ProviderConfig:
    """Write a provider's file, readable for its owner only; ``keys`` as in the file, variables unresolved.

    The same settings again are no change. Raises ``InvalidName``, ``StoreError``, or ``ConfigError`` for bad keys
    and, without ``replace``, for a file of that name with other settings.
    """
    store, file = _opened(directory), f"{provider_name(name)}.toml"
    config = _parsed(name, keys)
    if store.exists(file) and _read(store, file).config == config:
        return config
    try:
        store.write(file, _toml(config).encode(), replace=replace)
    except ObjectExists:
        raise ConfigError(f"provider {name} exists with other settings; --replace overwrites them") from None
    return config


# -- reading ----------------------------------------------------------------------------------------------------


def _opened(directory: str) -> Store:
    return open_store(directory, private=True)


def _read_all(store: Store) -> Iterator[ListedProvider]:
    # A hidden file is one that is just being written, or an editor's.
    for file in sorted(each.name for each in store.objects("") if not each.name.startswith(".")):
        if file.endswith(".toml"):
            try:
                listed = _read(store, file)
            except ObjectMissing:  # removed meanwhile
                continue
            if listed.error:
                _warn_once(f"provider file {file} is skipped: {listed.error}")
            yield listed
        else:
            _warn_once(f"provider file {file} is skipped: its name does not end in .toml")


def _read(store: Store, file: str) -> ListedProvider:
    """What a file says. Raises ``ObjectMissing``, and ``StoreUnavailable`` if the store does not answer."""
    name = PurePosixPath(file).stem
    try:
        keys = tomllib.loads(store.read(file).decode())
        if "kind" not in keys:
            return ListedProvider(name, None, "kind is missing" if keys else "the file is empty")
        return ListedProvider(name, _parsed(name, keys))
    except tomllib.TOMLDecodeError as error:
        problem = f"not valid TOML: {error}"
    except UnicodeDecodeError:
        problem = "not UTF-8 text"
    except StoreUnavailable:
        raise
    except (ConfigError, InvalidName, StoreError) as error:
        problem = error.message
    return ListedProvider(name, None, problem)


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
