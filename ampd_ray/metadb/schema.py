"""Make the schema, or check that a database has it (``spec/metadata-db.md`` 2.6).

Three databases are known: an empty one, one that Amp migrates, and one of ours. In Amp's we touch nothing but the
schema ``ampd_ray``. Whatever is none of them is refused and left alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import psycopg

from ampd_ray.errors import SchemaMismatch
from ampd_ray.metadb.catalogue import COLUMNS, Column, differences
from ampd_ray.metadb.connection import OPEN_WITHIN, Connection, Database
from ampd_ray.metadb.grants import Access, check_rights, grant
from ampd_ray.metadb.queries import Query, load

VERSION: Final = 3
"""The newest of our own migrations; ``version_<n>`` in ``ampd_ray.sql`` (and ``public.sql``, for our databases)."""

AMP_LEVEL: Final = 20260312000000
"""The migration of Amp that this schema describes."""

_SQL: Final = load(__file__)
_OURS: Final = load(Path(__file__).with_name("ampd_ray.sql"))
_PUBLIC: Final = load(Path(__file__).with_name("public.sql"))
_STATEMENT_TIMEOUT: Final = timedelta(seconds=60)  # as `limit_migration` has it
_OLDEST_SERVER: Final = 150000
_SQLX_LOCK: Final = 0x3D32AD9E
_NOT_FOR_AMP: Final = (
    "created the twelve tables of Amp's schema: this database must not be given to a real Amp later, "
    "whose migrator would start from nothing and fail because `workers` exists"
)


class Kind(StrEnum):
    """Whose database it is."""

    EMPTY = "empty"
    AMP = "amp"
    OURS = "ours"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MigrateReport:
    """What a database is after ``migrate``, ``check`` or ``ensure``, and what was done to it.

    ``created``: the schemas that were made or upgraded; ``exclusion``: the database itself refuses overlapping
    segments.
    """

    kind: Kind
    version: int
    created: tuple[str, ...]
    exclusion: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a database holds: table names by schema, our version (0: none), whether our schema exists."""

    public: frozenset[str]
    ours: frozenset[str]
    has_schema: bool
    version: int

    @property
    def kind(self) -> Kind:
        stray = bool(self.ours) and not self.version
        if stray:
            return Kind.UNKNOWN
        if "_sqlx_migrations" in self.public:
            return Kind.AMP
        known = self.public & COLUMNS.keys()
        if not known and not self.version:
            return Kind.EMPTY
        return Kind.OURS if len(known) == len(COLUMNS) and self.version else Kind.UNKNOWN


def sqlx_lock_key(database: str) -> int:
    """The key of the advisory lock under which Amp's migrator works on ``database`` (2.4)."""
    return _SQLX_LOCK * zlib.crc32(database.encode())


async def migrate(
    url: str,
    *,
    exclusion: bool = True,
    grants: Mapping[str, Access] | None = None,
    within: timedelta = OPEN_WITHIN,
) -> MigrateReport:
    """Bring the database behind ``url`` to our version, in one transaction under sqlx's lock.

    ``exclusion``: install btree_gist where possible, so that the database refuses overlapping segments. ``grants``:
    roles that are there, and what to let them do.
    Raises SchemaMismatch, having changed nothing, for a database of unknown make, a level of Amp that we do not
    know, missing rights, or a version of ours that is newer than this program; UsageError for a role that is unfit.
    """
    database = Database(url, application_name="ampd-ray/migrate")
    await database.reach(within)
    async with database.session() as conn:
        try:
            conn.statement_timeout = _STATEMENT_TIMEOUT
            async with conn.transaction():
                return await _migrate(conn, exclusion=exclusion, grants=grants or {})
        except psycopg.errors.InsufficientPrivilege as error:
            raise SchemaMismatch(
                f"the role may not migrate the database at {database.name}: {error.diag.message_primary}. Run "
                "`ampd migrate` as the owner of the database (with `--grant ROLE` for a worker's role), or have the "
                "owner create schema ampd_ray for this role."
            ) from error


async def ensure(url: str, auto_migrate: bool, *, within: timedelta = OPEN_WITHIN) -> MigrateReport:
    """What a worker does at its start: check schema and rights, and migrate first if need be and allowed.

    Raises SchemaMismatch as ``migrate`` and ``check`` do, and for a role that lacks a right.
    """
    database = Database(url, application_name="ampd-ray/check")
    await database.reach(within)
    async with database.session() as conn:
        found = await _look(conn)
        if found.version == VERSION or not auto_migrate:
            report = await check(conn)
            await check_rights(conn)
            return report
    return await migrate(url, within=within)


async def check(conn: Connection) -> MigrateReport:
    """Check, changing nothing, that the database is migrated and of a make and version that we know.

    Raises SchemaMismatch that lists every difference.
    """
    await _check_server(conn)
    found = await _look(conn)
    _refuse_unknown(found)
    if found.version < VERSION:
        raise SchemaMismatch(
            f"the metadata database is {'empty' if found.kind is Kind.EMPTY else 'not migrated'}: "
            f"it is at version {found.version} of schema ampd_ray, this program needs {VERSION}. Run `ampd migrate`."
        )
    warnings = await _check_public(conn, found.kind)
    return MigrateReport(found.kind, found.version, (), await _excludes(conn), tuple(warnings))


async def _migrate(conn: Connection, *, exclusion: bool, grants: Mapping[str, Access]) -> MigrateReport:
    await conn.execute(_SQL["limit_migration"])
    await _check_server(conn)
    name = (await _one(conn, _SQL["database_name"])).name
    await conn.execute(_SQL["lock_migrations"], {"key": sqlx_lock_key(name)})
    found = await _look(conn)
    _refuse_unknown(found)
    warnings: list[str] = []
    created: list[str] = []
    if found.kind is Kind.EMPTY:
        await conn.execute(_PUBLIC["version_1"])
        created.append("public")
        warnings.append(_NOT_FOR_AMP)
    kind = Kind.AMP if found.kind is Kind.AMP else Kind.OURS
    warnings += await _check_public(conn, kind)
    if found.version < VERSION:
        created.append("ampd_ray")
        warnings += await _upgrade(conn, found, exclusion=exclusion)
    for role, access in grants.items():
        warnings += await grant(conn, role, access, database=name, amp=kind is Kind.AMP)
    return MigrateReport(kind, VERSION, tuple(created), await _excludes(conn), tuple(warnings))


async def _upgrade(conn: Connection, found: _Found, *, exclusion: bool) -> list[str]:
    """Apply the migrations of schema ampd_ray that are still missing; warnings."""
    if not found.has_schema:  # asking for it anyway would need rights that are not needed
        await conn.execute(_OURS["create_schema"])
    for version in range(found.version + 1, VERSION + 1):
        await conn.execute(_OURS[f"version_{version}"])
        await conn.execute(_SQL["record_version"], {"version": version})
    if found.version == 0 and not (exclusion and await _exclude_overlaps(conn)):
        return ["btree_gist is not installed: overlapping segments are refused by our commits, not by the database"]
    return []


async def _exclude_overlaps(conn: Connection) -> bool:
    """Have the database refuse overlapping segments; False where it lacks btree_gist or we lack the right."""
    extension = await _one(conn, _SQL["btree_gist"])
    if not extension.installed and not extension.available:
        return False
    try:
        async with conn.transaction():
            if not extension.installed:
                await conn.execute(_OURS["create_btree_gist"])
            await conn.execute(_OURS["exclude_overlaps"])
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported):
        return False
    return True


async def _look(conn: Connection) -> _Found:
    tables = await (await conn.execute(_SQL["tables"])).fetchall()
    ours = frozenset(row.name for row in tables if row.schema == "ampd_ray")
    version = (await _one(conn, _SQL["our_version"])).version if "schema_version" in ours else 0
    return _Found(
        public=frozenset(row.name for row in tables if row.schema == "public"),
        ours=ours,
        has_schema=(await _one(conn, _SQL["schemas"])).found,
        version=version,
    )


def _refuse_unknown(found: _Found) -> None:
    if found.version > VERSION:
        raise SchemaMismatch(
            f"schema ampd_ray of the metadata database is at version {found.version}, this program knows up to "
            f"{VERSION}: it was migrated by a newer ampd-ray. Upgrade this one."
        )
    if found.kind is Kind.UNKNOWN:
        public = ", ".join(sorted(found.public)) or "none"
        missing = ", ".join(sorted(COLUMNS.keys() - found.public)) or "none"
        raise SchemaMismatch(
            "the metadata database is neither empty nor Amp's nor ours, and was left alone. "
            f"Tables in public: {public}. Of our twelve these are missing: {missing}. "
            f"Tables in ampd_ray: {', '.join(sorted(found.ours)) or 'none'}. Use an empty database."
        )


async def _check_public(conn: Connection, kind: Kind) -> list[str]:
    """Hold the twelve tables against what we rely on; warnings."""
    warnings = []
    if kind is Kind.AMP:
        newest = await _check_amp_level(conn)
        if newest > AMP_LEVEL:
            warnings.append(f"Amp's schema is at {newest}, newer than {AMP_LEVEL} that we know; all we use is there")
    columns = await (await conn.execute(_SQL["columns"])).fetchall()
    keys = await (await conn.execute(_SQL["unique_keys"])).fetchall()
    found = differences((Column(*row) for row in columns), {(row.table_name, frozenset(row.columns)) for row in keys})
    if found:
        raise SchemaMismatch(
            "the tables of the metadata database differ from what this program relies on: " + "; ".join(found),
            differences=found,
        )
    return warnings


async def _check_amp_level(conn: Connection) -> int:
    amp = await _one(conn, _SQL["amp_migrations"])
    if amp.failed:
        raise SchemaMismatch(
            f"{amp.failed} migration(s) of Amp have failed in this database. Run Amp's `ampd migrate`."
        )
    if (amp.newest or 0) < AMP_LEVEL:
        raise SchemaMismatch(
            f"Amp's schema is at {amp.newest or 'no version'}, this program needs {AMP_LEVEL}. "
            "Run Amp's own `ampd migrate`."
        )
    return int(amp.newest)


async def _check_server(conn: Connection) -> None:
    server = await _one(conn, _SQL["server_version"])
    if server.number < _OLDEST_SERVER:
        raise SchemaMismatch(f"the metadata database runs Postgres {server.version}; 15 is the oldest that will do")


async def _excludes(conn: Connection) -> bool:
    return bool((await _one(conn, _SQL["exclusion"])).found)


async def _one(conn: Connection, query: Query, values: dict[str, Any] | None = None) -> Any:
    row = await (await conn.execute(query, values)).fetchone()
    assert row is not None
    return row
