"""Where settings come from: the TOML file and ``AMP_CONFIG_*``, laid over each other key by key.

Knows names and sources, not meanings: a source becomes a flat ``{("writer", "bytes"): Entry}``, so that every
later message can say where a value was set (``spec/metadata-db.md`` 9.1).
"""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENV_PREFIX = "AMP_CONFIG_"

Key = tuple[str, ...]

logger = logging.getLogger(__name__)

# The same setting under another name that Amp knows; a prefix renames a whole table.
ALIASES: dict[Key, Key] = {
    ("writer", "garbage_collector"): ("writer", "collector"),
    ("worker_events", "progress_interval_secs"): ("worker_events", "progress_interval"),
}
# Old spellings: weaker than the new ones in either source, and named in a warning.
DEPRECATED: dict[Key, Key] = {
    ("dataset_defs_dir",): ("manifests_dir",),
    ("metadata_db_url",): ("metadata_db", "url"),
}
# AMP_CONFIG_METADATA_DB_URL is what users know, so it is no reproach.
SILENT = frozenset({f"{ENV_PREFIX}METADATA_DB_URL"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One value as it was given, and where: a file's path or a variable's name."""

    value: Any
    source: str


Entries = dict[Key, Entry]


@dataclass(frozen=True, slots=True)
class Schema:
    """The names that are valid.

    ``text`` keys take an environment value as it is; ``open_tables`` hold names that the user chooses.
    """

    keys: frozenset[Key]
    text: frozenset[Key]
    open_tables: frozenset[Key]

    def is_table(self, key: Key) -> bool:
        """True for a table of known keys, the root included."""
        return any(known[: len(key)] == key and known != key for known in self.keys)

    def knows(self, key: Key) -> bool:
        """True for a valid key, the names in an open table included."""
        return key in self.keys or key[:-1] in self.open_tables

    def nearest(self, key: Key) -> Key | None:
        """The valid key that was probably meant: by its full name first, then by its last part anywhere."""
        names = {"_".join(known): known for known in sorted(self.keys)}
        found = difflib.get_close_matches("_".join(key), names, n=1, cutoff=0.75)
        if found:
            return names[found[0]]
        lasts = {known[-1]: known for known in sorted(self.keys, reverse=True)}
        found = difflib.get_close_matches(key[-1], lasts, n=1, cutoff=0.75)
        return lasts[found[0]] if found else None


def read_file(path: Path, schema: Schema) -> Entries:
    """The entries of a TOML file. ``ValueError`` says why there are none."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ValueError(f"the config file {path} does not exist") from None
    except UnicodeDecodeError:
        raise ValueError(f"the config file {path} is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"the config file {path} cannot be read: {error.strerror}") from None
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the config file {path} is not valid TOML: {error}") from None
    return {key: Entry(value, str(path)) for key, value in _leaves(tree, (), schema)}


def read_env(env: Mapping[str, str], schema: Schema) -> Entries:
    """The entries of ``AMP_CONFIG_*``: case ignored, ``__`` between levels, values in TOML or plain text."""
    entries: Entries = {}
    for name, text in sorted(env.items()):
        if not name.upper().startswith(ENV_PREFIX):
            continue
        key = tuple(name[len(ENV_PREFIX) :].lower().split("__"))
        value = text if target(key) in schema.text else _toml_value(text)
        entries |= {leaf: Entry(found, name) for leaf, found in _leaves(value, key, schema)}
    return entries


def combine(file: Entries, env: Entries) -> Entries:
    """One entry per setting: environment, then file, then old spellings; a loser that says otherwise is logged."""
    merged: Entries = {}
    for entries in (file, env):
        merged |= {_alias(key): entry for key, entry in entries.items() if key not in DEPRECATED}
    for entries in (env, file):
        for old, new in DEPRECATED.items():
            if old in entries:
                _use_old_spelling(merged, entries[old], old, new)
    return merged


def target(key: Key) -> Key:
    """The present name of a setting given under any of its names."""
    return DEPRECATED.get(key) or _alias(key)


def dotted(key: Key) -> str:
    """The key as people write it."""
    return ".".join(key)


def spelled_for(key: Key, source: str) -> str:
    """The key as it has to be written in the same kind of source."""
    return ENV_PREFIX + "__".join(key).upper() if source.upper().startswith(ENV_PREFIX) else dotted(key)


def _use_old_spelling(merged: Entries, entry: Entry, old: Key, new: Key) -> None:
    winner = merged.setdefault(new, entry)
    if winner.value != entry.value:
        message = f"{spelled_for(old, entry.source)} is ignored: {dotted(new)} is set in {winner.source}"
        if entry.source.upper().startswith(ENV_PREFIX):
            message += f", over which {spelled_for(new, entry.source)} would count"
        logger.warning(message, extra={"source": entry.source})
    elif entry.source.upper() not in SILENT:
        message = f"{spelled_for(old, entry.source)} is deprecated: write {spelled_for(new, entry.source)}"
        logger.warning(message, extra={"source": entry.source})


def _leaves(value: Any, key: Key, schema: Schema) -> Iterator[tuple[Key, Any]]:
    """The values below ``key``, down to the settings; a table in a setting's place stays whole, to be reported."""
    meant = target(key)
    is_table = schema.is_table(meant) or meant in schema.open_tables
    if isinstance(value, dict) and (is_table or (value and not schema.knows(meant))):
        for name, inner in value.items():
            yield from _leaves(inner, (*key, name), schema)
    else:
        yield key, value


def _alias(key: Key) -> Key:
    for old, new in ALIASES.items():
        if key[: len(old)] == old:
            return new + key[len(old) :]
    return key


def _toml_value(text: str) -> Any:
    """``text`` as a TOML value; what is none stays text, and is then of the wrong type or a plain string."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text
