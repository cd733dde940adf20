"""Settings from their sources, or one report of everything that is wrong (``spec/metadata-db.md`` 9.1)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from ampd_ray.config.directories import DIRECTORIES, locate
from ampd_ray.config.keys import Compression, Settings, Table
from ampd_ray.config.sources import (
    Entries,
    Entry,
    Key,
    Schema,
    combine,
    dotted,
    read_env,
    read_file,
    spelled_for,
    target,
)
from ampd_ray.errors import ConfigError
from ampd_ray.log import redact

DEFAULT = "default"  # the source of what nobody set

logger = logging.getLogger(__name__)


def load_settings(config: Path | None, env: Mapping[str, str], *, solo_dir: Path | None = None) -> Settings:
    """The settings of the file ``config`` and the environment; creates nothing.

    With ``solo_dir`` the directories default into it, its ``config.toml`` is read if ``config`` is None, and no
    ``metadata_db.url`` is needed. Raises :class:`ConfigError` with every problem found.
    """
    if config is None and solo_dir is not None and (solo_dir / "config.toml").is_file():
        config = solo_dir / "config.toml"
    path = config.absolute() if config else None
    problems: list[str] = []
    try:
        file = read_file(path, SCHEMA) if path else {}
    except ValueError as error:
        # With the file's settings unknown, whatever is said beyond this would be guesswork.
        raise ConfigError(_report([str(error), *_misnamed(read_env(env, SCHEMA))])) from None
    from_env = read_env(env, SCHEMA)
    problems += [*_misnamed(file), *_misnamed(from_env)]
    entries = {key: entry for key, entry in combine(file, from_env).items() if SCHEMA.knows(key)}
    base = path.parent if path else Path.cwd()
    problems += _place_directories(entries, base, (solo_dir or base).absolute())
    _set_defaults(entries, solo=solo_dir is not None)
    if solo_dir is None and ("metadata_db", "url") not in entries:
        problems.append("metadata_db.url: set nowhere; set it in [metadata_db] or as AMP_CONFIG_METADATA_DB_URL")
    settings = _validated(entries, path, problems)
    logger.debug("effective configuration", extra={"settings": redacted(settings)})
    return settings


def redacted(settings: Settings) -> dict[str, Any]:
    """Every key with its value as plain JSON: secrets as stars, URLs as hosts."""
    cleaned: dict[str, Any] = _clean(settings.model_dump(mode="json"))
    return cleaned


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _clean(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return redact(value) if isinstance(value, str) else value


# -- from entries to settings -----------------------------------------------------------------------------------


def _misnamed(entries: Entries) -> Iterator[str]:
    """A problem for each entry that names no setting."""
    for key, entry in entries.items():
        meant = target(key)
        if SCHEMA.knows(meant):
            continue
        if SCHEMA.is_table(meant):
            yield f"{_named(key, entry)}: expected a table, got {_shown(entry.value)}"
        else:
            nearest = SCHEMA.nearest(meant)
            hint = f"; did you mean {spelled_for(nearest, entry.source)}?" if nearest else ""
            yield f"{_named(key, entry)}: unknown key{hint}"


def _place_directories(entries: Entries, base: Path, default_base: Path) -> list[str]:
    """Make the directories absolute; the problems of those that are none."""
    problems = []
    for name, default in DIRECTORIES.items():
        entry = entries.setdefault((name,), Entry(str(default_base / default), DEFAULT))
        try:
            if isinstance(entry.value, str):
                entries[(name,)] = Entry(locate(entry.value, base), entry.source)
        except ValueError as error:
            problems.append(f"{_named((name,), entry)}: {error}")
    return problems


def _set_defaults(entries: Entries, *, solo: bool) -> None:
    """The defaults that depend on other settings."""
    data_dir = str(entries[("data_dir",)].value)
    group = data_dir if "://" in data_dir else f"{socket.gethostname()}:{data_dir}"
    entries.setdefault(("ampd_ray", "failover_group"), Entry(group, DEFAULT))
    if solo:
        entries.setdefault(("ampd_ray", "takeover"), Entry(False, DEFAULT))
    if unread := entries.get(("writer", "compactor", "max_eager_generation")):
        logger.warning("writer.compactor.max_eager_generation has no effect", extra={"source": unread.source})


def _validated(entries: Entries, path: Path | None, problems: list[str]) -> Settings:
    """The settings, or one ConfigError with ``problems`` and those of the values."""
    tree: dict[str, Any] = {}
    for key, entry in entries.items():
        table = tree
        for name in key[:-1]:
            table = table.setdefault(name, {})
        table[key[-1]] = entry.value
    try:
        settings = Settings.model_validate(tree, context=path)
    except ValidationError as error:
        details = error.errors(include_url=False)
        # Defaults made from other values are not made beside a wrong one: no problem of its own.
        problems += [_problem(one, entries) for one in details if one["type"] != "default_factory_not_called"]
        raise ConfigError(_report(problems), problems=problems) from None
    database, ours = settings.metadata_db, settings.ampd_ray
    if database.min_connections > database.pool_size:
        problems.append(
            f"metadata_db.min_connections: {database.min_connections} is above pool_size, {database.pool_size}"
        )
    if ours.extractors is not None and ours.min_extractors > ours.extractors:
        problems.append(f"ampd_ray.min_extractors: {ours.min_extractors} is above extractors, {ours.extractors}")
    if problems:
        raise ConfigError(_report(problems), problems=problems)
    return settings


def _problem(detail: ErrorDetails, entries: Entries) -> str:
    """One error of pydantic as a line: the key, its source, what was expected, what came."""
    key = tuple(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return f"{dotted(key)}: required in [{dotted(key[:-1])}]"
    items = {each[-1]: entry for each, entry in entries.items() if each[:-1] == key}
    if items:  # a table, which is set item by item
        sources = ", ".join(dict.fromkeys(entry.source for entry in items.values()))
        set_by = Entry({name: entry.value for name, entry in items.items()}, sources)
    else:
        key = key if key in entries else key[:-1]  # an item of a list: the list is what somebody set
        set_by = entries[key]
    expected = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    value = "a secret, not shown" if key in SECRETS else _shown(set_by.value)
    return f"{_named(key, set_by)}: {expected}, got {value}"


def _named(key: Key, entry: Entry) -> str:
    return f"{dotted(key)} ({entry.source})"


def _shown(value: Any) -> str:
    text = redact(repr(value))
    return text if len(text) <= 80 else f"{text[:80]}…"


def _report(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"invalid configuration: {problems[0]}"
    return "\n  ".join([f"invalid configuration, {len(problems)} problems:", *problems])


# -- the schema, read off the models ----------------------------------------------------------------------------


def _fields(model: type[BaseModel], prefix: Key = ()) -> Iterator[tuple[Key, set[Any]]]:
    """Each setting with the alternatives of its type."""
    for name, field in model.model_fields.items():
        types = set(_alternatives(field.annotation))
        tables = [kind for kind in types if isinstance(kind, type) and issubclass(kind, Table)]
        if tables:
            yield from _fields(tables[0], (*prefix, name))
        else:
            yield (*prefix, name), types


def _alternatives(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one)
    else:
        yield get_origin(annotation) or annotation


_FIELDS = dict(_fields(Settings))
SECRETS = frozenset(key for key, types in _FIELDS.items() if SecretStr in types)
SCHEMA = Schema(
    keys=frozenset(_FIELDS),
    text=frozenset(key for key, types in _FIELDS.items() if types & {str, SecretStr, Compression}),
    open_tables=frozenset(key for key, types in _FIELDS.items() if dict in types),
)
