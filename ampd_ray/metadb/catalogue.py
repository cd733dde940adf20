"""What we rely on in Amp's twelve tables (``spec/metadata-db.md`` 2.1-2.3), and how a database differs from it.

Only what we read or write is listed: Amp may drop its dead columns or add optional ones without asking us. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

_SHORT: Final = {"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the database has it; ``optional``: an insert may leave it out."""

    table: str
    name: str
    type: str
    nullable: bool
    optional: bool = True


def _columns(table: str, text: str) -> tuple[Column, ...]:
    """Parse "name type, name type?": a question mark allows NULL."""
    words = [column.split() for column in text.split(",")]
    return tuple(Column(table, name, _type(kind), kind.endswith("?")) for name, kind in words)


def _type(kind: str) -> str:
    bare = kind.rstrip("?")
    return _SHORT.get(bare, bare)


COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    table: _columns(table, text)
    for table, text in {
        "workers": "id bigint, node_id text, heartbeat_at timestamptz, info jsonb, created_at timestamptz, "
        "registered_at timestamptz",
        "jobs": "id bigint, node_id text, created_at timestamptz, idempotency_key text",
        "jobs_status": "job_id bigint, node_id text, status text, updated_at timestamptz, detail jsonb?",
        "job_events": "id bigint, created_at timestamptz, job_id bigint, node_id text, event_type text, detail jsonb?",
        "manifest_files": "hash text, path text, created_at timestamptz, kind text",
        "dataset_manifests": "namespace text, name text, hash text, created_at timestamptz",
        "tags": "namespace text, name text, version text, hash text, created_at timestamptz, updated_at timestamptz",
        "physical_table_revisions": "id bigint, created_at timestamp, updated_at timestamp, path text, "
        "writer bigint?, metadata jsonb",
        "physical_tables": "id bigint, created_at timestamp, updated_at timestamp, dataset_namespace text, "
        "dataset_name text, table_name text, manifest_hash text, active_revision_id bigint?",
        "file_metadata": "id bigint, location_id bigint, file_name text, metadata jsonb, object_size bigint?, "
        "object_e_tag text?, object_version text?, url text",
        "footer_cache": "file_id bigint, footer bytea",
        "gc_manifest": "location_id bigint, file_id bigint, file_path text, expiration timestamp",
    }.items()
}
"""The columns that we read or write, by table."""

DEAD: Final = frozenset({("jobs", "descriptor"), ("jobs", "status"), ("jobs", "updated_at")})
"""Columns that hold defaults only."""

UNIQUE_KEYS: Final = (
    ("workers", ("node_id",)),
    ("jobs", ("idempotency_key",)),
    ("jobs_status", ("job_id",)),
    ("manifest_files", ("hash",)),
    ("dataset_manifests", ("namespace", "name", "hash")),
    ("tags", ("namespace", "name", "version")),
    ("physical_table_revisions", ("path",)),
    ("physical_tables", ("dataset_namespace", "dataset_name", "manifest_hash", "table_name")),
    ("file_metadata", ("location_id", "file_name")),
    ("footer_cache", ("file_id",)),
    ("gc_manifest", ("file_id",)),
)
"""What our inserts name as their conflict target."""


def differences(columns: Iterable[Column], unique_keys: Collection[tuple[str, frozenset[str]]]) -> list[str]:
    """Where a database differs from what we rely on, one sentence each; empty when it will do."""
    actual = {(column.table, column.name): column for column in columns}
    tables = {table for table, _ in actual}
    found = [f"table {table} is missing" for table in COLUMNS if table not in tables]
    for table in COLUMNS.keys() & tables:
        for wanted in COLUMNS[table]:
            found += _difference(wanted, actual.get((table, wanted.name)))
        known = {column.name for column in COLUMNS[table]}
        found += [
            f"column {table}.{column.name} is unknown to us, not null and without a default"
            for column in actual.values()
            if column.table == table and column.name not in known and not column.nullable and not column.optional
        ]
    found += [
        f"table {table} has no unique key on ({', '.join(key)})"
        for table, key in UNIQUE_KEYS
        if table in tables and (table, frozenset(key)) not in unique_keys
    ]
    return sorted(found)


def _difference(wanted: Column, actual: Column | None) -> list[str]:
    name = f"column {wanted.table}.{wanted.name}"
    if actual is None:
        return [f"{name} is missing"]
    found = []
    if actual.type != wanted.type:
        found.append(f"{name} is {actual.type}, expected {wanted.type}")
    if actual.nullable != wanted.nullable:
        found.append(f"{name} {'may' if actual.nullable else 'must not'} be null")
    return found
