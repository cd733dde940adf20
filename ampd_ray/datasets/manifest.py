"""Manifests of raw datasets: their fields, canonical bytes and hash (``spec/data.md`` 3.1-3.2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ampd_ray.datasets.tables import TABLES
from ampd_ray.errors import InvalidManifest

__all__ = ["KIND", "TABLES", "Manifest", "evm_rpc_manifest", "parse_manifest", "stored_manifest", "table_differences"]

KIND = "evm-rpc"


@dataclass(frozen=True)
class Manifest:
    """What a raw dataset is. ``tables`` is the canonical form of what was given; Amp ignores it, and so do we.

    ``registered_as``: the hash that it goes by, if it was written with more than we know.
    """

    kind: str
    network: str
    start_block: int = 0
    finalized_blocks_only: bool = False
    tables: Mapping[str, Any] = field(default_factory=dict)
    registered_as: str | None = field(default=None, compare=False)

    def canonical_bytes(self) -> bytes:
        """The bytes whose SHA-256 is the manifest's hash, byte-identical to Amp's."""
        document = {
            "kind": self.kind,
            "network": self.network,
            "start_block": self.start_block,
            "finalized_blocks_only": self.finalized_blocks_only,
            "tables": {name: self.tables[name] for name in sorted(self.tables, key=str.encode)},
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical bytes, 64 lower-case hex digits; or what it is registered as."""
        return self.registered_as or hashlib.sha256(self.canonical_bytes()).hexdigest()


def evm_rpc_manifest(network: str, start_block: int = 0, finalized_blocks_only: bool = False) -> Manifest:
    """The complete three-table manifest of ``network``, as Amp generates it."""
    from ampd_ray.datasets.evm.arrow_json import columns  # noqa: PLC0415 - Arrow takes long to import

    tables = {name: {"schema": {"arrow": {"fields": fields}}, "network": network} for name, fields in columns().items()}
    return Manifest(KIND, network, start_block, finalized_blocks_only, tables)


# -- reading ----------------------------------------------------------------------------------------------------


def stored_manifest(text: bytes, manifest_hash: str) -> Manifest:
    """Read the object of a registered manifest. Raises InvalidManifest, also if it is not what the hash says.

    Either the bytes have that hash, with fields in them that we may not know, or their canonical form has it.
    """
    manifest = parse_manifest(text)
    if manifest.hash == manifest_hash:
        return manifest
    if hashlib.sha256(text).hexdigest() == manifest_hash:
        return replace(manifest, registered_as=manifest_hash)
    raise InvalidManifest(f"the object of manifest {manifest_hash} was changed: it is {manifest.hash} now")


def parse_manifest(text: bytes) -> Manifest:
    """Read a manifest in any key order, with defaults, unknown keys dropped. Raises InvalidManifest.

    The hash of the result is that of the canonical form, whatever the form of ``text``.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidManifest(f"the manifest is not JSON: {error}") from None
    document = _object(document, "the manifest")
    kind = document.get("kind")
    if kind != KIND:
        raise InvalidManifest(f"manifest kind {kind!r}: only {KIND!r} datasets are extracted here", kind=kind)
    return Manifest(
        kind,
        _network(document.get("network"), "network"),
        _start_block(document.get("start_block", 0)),
        _boolean(document.get("finalized_blocks_only", False), "finalized_blocks_only"),
        {name: _table(table, name) for name, table in _object(document.get("tables"), "tables").items()},
    )


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidManifest(f"{what} must be a JSON object", field=what)
    return value


def _boolean(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidManifest(f"{what} must be true or false", field=what)
    return value


def _network(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InvalidManifest(f"{what} must be a non-empty string in one line", field=what)
    return value


def _start_block(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise InvalidManifest("start_block must be an unsigned 64-bit number", field="start_block")
    return value


def _table(value: Any, name: str) -> Any:
    """A table's canonical form. Content that is not a table's schema is kept as given: it is decorative."""
    try:
        columns = [
            {"name": c["name"], "type": _canonical_type(c["type"]), "nullable": c["nullable"]}
            for c in value["schema"]["arrow"]["fields"]
        ]
        return {"schema": {"arrow": {"fields": columns}}, "network": value["network"]}
    except (KeyError, TypeError):
        return value


def _canonical_type(kind: Any) -> Any:
    if isinstance(kind, dict) and "List" in kind:
        return {"List": canonical_nested(kind["List"])}
    if isinstance(kind, dict) and "Struct" in kind:
        return {"Struct": [canonical_nested(child) for child in kind["Struct"]]}
    return kind


def canonical_nested(child: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form of an item of a list, or a member of a struct."""
    return {
        "name": child["name"],
        "data_type": _canonical_type(child["data_type"]),
        "nullable": child["nullable"],
        "dict_id": child.get("dict_id", 0),
        "dict_is_ordered": child.get("dict_is_ordered", False),
        "metadata": child.get("metadata", {}),
    }


def table_differences(manifest: Manifest) -> list[str]:
    """How the manifest's decorative tables differ from those that are written: one sentence each, for a warning."""
    real = evm_rpc_manifest(manifest.network).tables
    unknown = [f"table {name}: not written by {KIND}" for name in manifest.tables if name not in real]
    absent = [f"table {name}: written, but not in the manifest" for name in real if name not in manifest.tables]
    shared = [name for name in real if name in manifest.tables and manifest.tables[name] != real[name]]
    return unknown + absent + [f"table {name}: other columns or network than written" for name in shared]
