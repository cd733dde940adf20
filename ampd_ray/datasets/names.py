"""What things may be called (``spec/data.md`` 3.3), and references to a dataset."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Self

from ampd_ray.errors import InvalidName

DEFAULT_NAMESPACE = "_"

_NAMESPACE = re.compile(r"[a-z0-9_]+")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")
_NODE_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,127}")
_HASH = re.compile(r"[0-9a-f]{64}")
_NUMBER = r"(?:0|[1-9]\d*)"
_LABEL = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_LABEL}(?:\.{_LABEL})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


def _match(pattern: re.Pattern[str], text: str, what: str, rule: str) -> str:
    if not pattern.fullmatch(text):
        raise InvalidName(f"{text!r} is not a {what}: {rule}", name=text)
    return text


def meant(name: str, known: Iterable[str]) -> str:
    """What an error about an unknown name adds: the one that it looks like; nothing if there is none."""
    likely = get_close_matches(name, list(known), n=1)
    return f"; did you mean {likely[0]}?" if likely else ""


def namespace(text: str) -> str:
    """A dataset's namespace. Raises InvalidName."""
    return _match(_NAMESPACE, text, "namespace", "use a-z, 0-9 and _")


def dataset_name(text: str) -> str:
    """A dataset's name. Raises InvalidName."""
    return _match(_NAME, text, "dataset name", "use a-z, 0-9 and _, not starting with a digit")


def provider_name(text: str) -> str:
    """A provider's name, the stem of its file. Raises InvalidName."""
    return _match(_NAME, text, "provider name", "use a-z, 0-9 and _, not starting with a digit")


def table_name(text: str) -> str:
    """A table's name, 1 to 63 bytes. Raises InvalidName."""
    return _match(_TABLE, text, "table name", "use 1 to 63 of A-Z, a-z, 0-9, _ and $, not starting with a digit or $")


def network(text: str) -> str:
    """A network's name: any text in one line but the empty one. Raises InvalidName."""
    if not text.strip() or not text.isprintable():
        raise InvalidName("a network's name must not be empty, and be in one line", name=text)
    return text


def node_id(text: str) -> str:
    """An Amp worker's Node ID. Raises InvalidName."""
    return _match(_NODE_ID, text, "Node ID", "start with a letter, then letters, digits, _, - and ., at most 128")


def manifest_hash(text: str) -> str:
    """The SHA-256 of a manifest, 64 lower-case hex digits. Raises InvalidName."""
    return _match(_HASH, text, "manifest hash", "64 lower-case hex digits")


def object_name(text: str) -> str:
    """The bare name of a file in a directory, as a row has it: no path. Raises InvalidName."""
    if text in ("", ".", "..") or "/" in text or "\\" in text or not text.isprintable():
        raise InvalidName(f"{text!r} is not the name of a file: it must be in one line, and no path", name=text)
    return text


def directory(text: str) -> str:
    """The directory of a revision in the data directory, as a row has it: it leads nowhere else. Raises InvalidName."""
    try:
        first, *_ = [object_name(part) for part in text.split("/")]
    except InvalidName:
        first = "."
    if first.startswith("."):  # what is hidden there is ours
        raise InvalidName(f"{text!r} is not the directory of a revision, such as _/mainnet/blocks/0198c0de", name=text)
    return text


def is_hash(text: str) -> bool:
    """True for a manifest hash, as opposed to a tag."""
    return _HASH.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """True for a semantic version (2.0.0)."""
    return _VERSION.fullmatch(text) is not None


def revision(text: str) -> str:
    """A semantic version, a manifest hash, ``latest`` or ``dev``. Raises InvalidName."""
    if text in ("latest", "dev") or is_hash(text) or is_version(text):
        return text
    raise InvalidName(
        f"{text!r} is not a revision: give a version such as 1.2.0, a manifest hash, latest or dev", name=text
    )


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """A dataset, or one revision of it: ``namespace/name[@revision]``."""

    namespace: str
    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``[namespace/]name[@revision]``; the namespace defaults to ``_``. Raises InvalidName."""
        path, at, tag = text.partition("@")
        space, slash, name = path.rpartition("/")
        return cls(namespace(space) if slash else DEFAULT_NAMESPACE, dataset_name(name), revision(tag) if at else None)

    @property
    def dataset(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        return self.dataset if self.revision is None else f"{self.dataset}@{self.revision}"
