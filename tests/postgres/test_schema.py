"""Migration: what is made on an empty database, what is touched on Amp's, and what is refused."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ampd_ray.errors import SchemaMismatch
from ampd_ray.metadb import progress, schema
from ampd_ray.metadb.catalogue import COLUMNS, DEAD, UNIQUE_KEYS
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.progress import JobProgress
from ampd_ray.metadb.queries import Query
from ampd_ray.metadb.schema import AMP_LEVEL, VERSION, Kind, MigrateReport, check, ensure, migrate, sqlx_lock_key
from tests.servers import as_owner

UTC_NOW = "(now() AT TIME ZONE 'utc'::text)"
SQLX = """
create table _sqlx_migrations (
    version bigint primary key, description text not null, installed_on timestamptz not null default now(),
    success boolean not null, checksum bytea not null, execution_time bigint not null
);
"""


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Connection]:
    async with Database(url).session() as conn:
        yield conn


async def execute(url: str, statements: str) -> None:
    async with session(url) as conn:
        await conn.execute(statements.encode())


async def rows(url: str, query: str) -> list[Any]:
    async with session(url) as conn:
        return [tuple(row) for row in await (await conn.execute(query.encode())).fetchall()]


async def snapshot(url: str) -> list[Any]:
    """Everything in public that a migration could change."""
    return await rows(
        url,
        """
        select 'relation', c.relname::text, c.relkind::text, c.oid::text from pg_class c
        where c.relnamespace = 'public'::regnamespace
        union all
        select 'column', c.relname::text, a.attname::text,
               concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
                         pg_get_expr(d.adbin, d.adrelid))
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where c.relnamespace = 'public'::regnamespace and a.attnum > 0
        union all
        select 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) from pg_constraint
        where connamespace = 'public'::regnamespace
        union all
        select 'routine', proname::text, '', '' from pg_proc where pronamespace = 'public'::regnamespace
        union all
        select 'trigger', tgname::text, '', '' from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = 'public'::regnamespace and not t.tgisinternal
        order by 1, 2, 3, 4
        """,
    )


async def make_amp(url: str, newest: int = AMP_LEVEL) -> None:
    """The database as Amp's own migrator leaves it."""
    async with session(url) as conn:
        await conn.execute(schema._PUBLIC["version_1"])
        await conn.execute(SQLX.encode())
        await conn.execute(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)"
            " select %s::bigint - at, 'm', true, '\\x00', 1 from generate_series(0, 27) at",
            [newest],
        )


@pytest.fixture
async def amp_url(empty_pg_url: str) -> str:
    """A fresh database of Amp's."""
    await make_amp(empty_pg_url)
    return empty_pg_url


# -- an empty database ------------------------------------------------------------------------------------------

CONSTRAINTS = {
    "dataset_manifests_hash_fkey": "FOREIGN KEY (hash) REFERENCES manifest_files(hash) ON DELETE CASCADE",
    "dataset_manifests_pkey": "PRIMARY KEY (namespace, name, hash)",
    "file_metadata_location_id_fkey": "FOREIGN KEY (location_id) "
    "REFERENCES physical_table_revisions(id) ON DELETE CASCADE",
    "file_metadata_pkey": "PRIMARY KEY (id)",
    "fk_job_events_job_id": "FOREIGN KEY (job_id) REFERENCES jobs(id) ON DELETE CASCADE",
    "fk_jobs_status_job_id": "FOREIGN KEY (job_id) REFERENCES jobs(id) ON DELETE CASCADE",
    "footer_cache_file_id_fkey": "FOREIGN KEY (file_id) REFERENCES file_metadata(id) ON DELETE CASCADE",
    "footer_cache_pkey": "PRIMARY KEY (file_id)",
    "gc_manifest_expiration_check": "CHECK ((expiration > now()))",
    "gc_manifest_file_id_fkey": "FOREIGN KEY (file_id) REFERENCES file_metadata(id) ON DELETE CASCADE",
    "gc_manifest_file_path_key": "UNIQUE (file_path)",
    "gc_manifest_location_id_file_id_key": "UNIQUE (location_id, file_id)",
    "gc_manifest_location_id_fkey": "FOREIGN KEY (location_id) "
    "REFERENCES physical_table_revisions(id) ON DELETE CASCADE",
    "gc_manifest_pkey": "PRIMARY KEY (file_id)",
    "job_events_pkey": "PRIMARY KEY (id)",
    "jobs_idempotency_key_unique": "UNIQUE (idempotency_key)",
    "jobs_node_id_fkey": "FOREIGN KEY (node_id) REFERENCES workers(node_id)",
    "jobs_pkey": "PRIMARY KEY (id)",
    "jobs_status_pkey": "PRIMARY KEY (job_id)",
    "manifest_files_pkey": "PRIMARY KEY (hash)",
    "physical_table_revisions_path_key": "UNIQUE (path)",
    "physical_table_revisions_pkey": "PRIMARY KEY (id)",
    "physical_table_revisions_writer_fkey": "FOREIGN KEY (writer) REFERENCES jobs(id) ON DELETE SET NULL",
    "physical_tables_active_revision_id_fkey": "FOREIGN KEY (active_revision_id) "
    "REFERENCES physical_table_revisions(id) ON DELETE SET NULL",
    "physical_tables_pkey": "PRIMARY KEY (id)",
    "tags_namespace_name_hash_fkey": "FOREIGN KEY (namespace, name, hash) "
    "REFERENCES dataset_manifests(namespace, name, hash) ON DELETE CASCADE",
    "tags_pkey": "PRIMARY KEY (namespace, name, version)",
    "workers_node_id_key": "UNIQUE (node_id)",
    "workers_pkey": "PRIMARY KEY (id)",
}
INDEXES = {
    "idx_dataset_manifests_dataset": "dataset_manifests USING btree (namespace, name)",
    "idx_dataset_manifests_hash": "dataset_manifests USING btree (hash)",
    "idx_gc_manifest": "gc_manifest USING btree (location_id, expiration) INCLUDE (file_path)",
    "idx_job_events_job_id_id": "job_events USING btree (job_id, id)",
    "idx_jobs_status_node_id_status": "jobs_status USING btree (node_id, status)",
    "idx_jobs_status_status": "jobs_status USING btree (status)",
    "idx_physical_tables_active_revision_id": "physical_tables USING btree (active_revision_id) "
    "WHERE (active_revision_id IS NOT NULL)",
    "idx_tags_dataset": "tags USING btree (namespace, name)",
    "unique_file_name_per_location_id": "file_metadata USING btree (location_id, file_name)",
    "unique_manifest_table": "physical_tables USING btree (dataset_namespace, dataset_name, manifest_hash, table_name)",
}
IDENTITY = {
    ("file_metadata", "id", "a"),
    ("job_events", "id", "d"),
    ("jobs", "id", "a"),
    ("physical_table_revisions", "id", "d"),
    ("physical_tables", "id", "a"),
    ("workers", "id", "a"),
}
DEFAULTS = {
    ("dataset_manifests", "created_at", UTC_NOW),
    ("job_events", "created_at", UTC_NOW),
    ("jobs", "created_at", "now()"),
    ("jobs", "status", "'SCHEDULED'::text"),
    ("jobs", "updated_at", "now()"),
    ("jobs_status", "updated_at", UTC_NOW),
    ("manifest_files", "created_at", UTC_NOW),
    ("manifest_files", "kind", "'unknown'::text"),
    ("physical_table_revisions", "created_at", UTC_NOW),
    ("physical_table_revisions", "metadata", "'{}'::jsonb"),
    ("physical_table_revisions", "updated_at", UTC_NOW),
    ("physical_tables", "created_at", UTC_NOW),
    ("physical_tables", "updated_at", UTC_NOW),
    ("tags", "created_at", UTC_NOW),
    ("tags", "updated_at", UTC_NOW),
    ("workers", "created_at", UTC_NOW),
    ("workers", "info", "'{}'::jsonb"),
    ("workers", "registered_at", UTC_NOW),
}


async def test_the_tables_are_named_and_bound_as_amps(pg_url: str) -> None:
    constraints = await rows(
        pg_url,
        "select conname::text, pg_get_constraintdef(oid) from pg_constraint"
        " where connamespace = 'public'::regnamespace and contype <> 'n'",
    )
    indexes = await rows(
        pg_url,
        "select indexname::text, split_part(indexdef, 'public.', 2) from pg_indexes where schemaname = 'public'"
        " and not exists (select from pg_constraint where conname = indexname)",
    )
    columns = """
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0
        """
    identity = await rows(
        pg_url, f"select c.relname::text, a.attname::text, a.attidentity::text {columns} and a.attidentity <> ''"
    )
    defaults = await rows(
        pg_url,
        f"select c.relname::text, a.attname::text, pg_get_expr(d.adbin, d.adrelid) {columns} and d.adbin is not null",
    )
    assert dict(constraints) == CONSTRAINTS
    assert dict(indexes) == INDEXES
    assert set(identity) == IDENTITY
    assert set(defaults) == DEFAULTS
    assert (
        await rows(pg_url, "select indexname from pg_indexes where indexname like 'unique_%' and indexdef !~ 'UNIQUE'")
        == []
    )


async def test_the_catalogue_is_what_we_make(pg_url: str) -> None:
    columns = await rows(
        pg_url,
        "select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), not a.attnotnull"
        " from pg_attribute a join pg_class c on c.oid = a.attrelid"
        " where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0",
    )
    listed = {(column.table, column.name, column.type, column.nullable) for own in COLUMNS.values() for column in own}
    assert {column for column in columns if column[:2] not in DEAD} == listed
    assert {column[:2] for column in columns} >= DEAD


async def test_public_holds_nothing_but_the_twelve_tables(pg_url: str) -> None:
    kinds = {(kind, name) for kind, name, _, _ in await snapshot(pg_url)}
    tables = await rows(
        pg_url, "select relname::text from pg_class where relnamespace='public'::regnamespace and relkind='r'"
    )
    assert {name for (name,) in tables} == COLUMNS.keys()
    assert len(tables) == 12
    assert not [name for kind, name in kinds if kind in ("routine", "trigger")]
    sequences = await rows(
        pg_url, "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'S'"
    )
    assert sequences == [(len(IDENTITY),)]


async def test_an_fresh_database_gets_all_and_a_warning(empty_pg_url: str) -> None:
    report = await migrate(empty_pg_url)
    assert (report.kind, report.version, report.created) == (Kind.OURS, VERSION, ("public", "ampd_ray"))
    assert report.exclusion
    assert any("must not be given to a real Amp" in warning for warning in report.warnings)
    assert await rows(empty_pg_url, "select to_regclass('_sqlx_migrations')") == [(None,)]


async def test_a_second_migration_changes_nothing(empty_pg_url: str) -> None:
    await migrate(empty_pg_url)
    before = await snapshot(empty_pg_url)
    assert await migrate(empty_pg_url) == MigrateReport(Kind.OURS, VERSION, (), exclusion=True, warnings=())
    assert await snapshot(empty_pg_url) == before
    versions = [(version,) for version in range(1, VERSION + 1)]
    assert await rows(empty_pg_url, "select version from ampd_ray.schema_version order by 1") == versions


async def test_a_database_of_an_older_version_is_upgraded_and_keeps_what_it_has(
    empty_pg_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(schema, "VERSION", 1)
        await migrate(empty_pg_url)
    await execute(empty_pg_url, "insert into ampd_ray.tombstone (url, location_id) values ('file:///x', 1)")
    with pytest.raises(SchemaMismatch, match="Run `ampd migrate`"):
        await ensure(empty_pg_url, auto_migrate=False)
    assert await ensure(empty_pg_url, auto_migrate=True) == MigrateReport(
        Kind.OURS, VERSION, ("ampd_ray",), exclusion=True, warnings=()
    )
    assert await rows(empty_pg_url, "select url from ampd_ray.tombstone") == [("file:///x",)]
    assert await rows(empty_pg_url, "select network from ampd_ray.network") == []


async def test_progress_of_version_2_is_kept_and_may_lack_the_rates(
    empty_pg_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(schema, "VERSION", 2)
        await migrate(empty_pg_url)
    columns = "job_id, node_id, phase, blocks_done, rate"
    await execute(empty_pg_url, f"insert into ampd_ray.job_progress ({columns}) values (1, 'w', 'waiting', 7, 2.5)")
    assert (await migrate(empty_pg_url)).version == VERSION
    async with session(empty_pg_url) as conn:
        found = await progress.read(conn, 1)
        assert await progress.history(conn, 1) == []
    assert found is not None
    assert found.progress == JobProgress(phase="waiting", blocks_done=7, rate=2.5)


async def test_two_that_migrate_at_once_migrate_once(empty_pg_url: str) -> None:
    reports = await asyncio.gather(*(migrate(empty_pg_url) for _ in range(4)))
    assert sorted(len(report.created) for report in reports) == [0, 0, 0, 2]


async def test_a_migration_waits_for_amps_migrator(empty_pg_url: str) -> None:
    async with session(empty_pg_url) as amp, session(empty_pg_url) as watch:
        (name,) = (await rows(empty_pg_url, "select current_database()"))[0]
        key = 0x3D32AD9E * zlib.crc32(name.encode())
        assert sqlx_lock_key(name) == key == 1026731422 * zlib.crc32(name.encode())
        await amp.execute("select pg_advisory_lock(%s::bigint)", [key])
        migrating = asyncio.create_task(migrate(empty_pg_url))
        waiting = b"select count(*) from pg_locks where locktype = 'advisory' and not granted"
        while (await (await watch.execute(waiting)).fetchone())[0] == 0:  # type: ignore[index]
            assert not migrating.done()
        await amp.execute("select pg_advisory_unlock(%s::bigint)", [key])
        assert (await migrating).created == ("public", "ampd_ray")


async def test_a_failure_half_way_leaves_nothing(empty_pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = schema._OURS | {"version_1": Query("version_1", "Broken.", "create table ampd_ray.x (a nothing)")}
    monkeypatch.setattr(schema, "_OURS", broken)
    before = await snapshot(empty_pg_url)
    with pytest.raises(Exception, match="nothing"):
        await migrate(empty_pg_url)
    assert await snapshot(empty_pg_url) == before
    assert await rows(empty_pg_url, "select to_regnamespace('ampd_ray')") == [(None,)]


# -- Amp's database ---------------------------------------------------------------------------------------------


async def test_on_amps_database_only_our_schema_is_made(amp_url: str) -> None:
    before = await snapshot(amp_url)
    report = await migrate(amp_url)
    assert report == MigrateReport(Kind.AMP, VERSION, ("ampd_ray",), exclusion=True, warnings=())
    assert await snapshot(amp_url) == before
    assert await rows(
        amp_url, "select extnamespace::regnamespace::text from pg_extension where extname = 'btree_gist'"
    ) == [("ampd_ray",)]
    assert await rows(
        amp_url,
        "select count(*) from pg_constraint where contype = 'f' and connamespace = 'ampd_ray'::regnamespace",
    ) == [(0,)]


async def test_dropping_our_schema_leaves_amps_database_as_it_was(amp_url: str) -> None:
    before = await snapshot(amp_url)
    await migrate(amp_url)
    await execute(amp_url, "drop schema ampd_ray cascade")
    assert await snapshot(amp_url) == before
    assert await rows(amp_url, "select count(*) from pg_extension where extname = 'btree_gist'") == [(0,)]
    assert (await migrate(amp_url)).created == ("ampd_ray",)


async def test_a_newer_amp_that_has_all_we_use_is_a_warning(empty_pg_url: str) -> None:
    await make_amp(empty_pg_url, AMP_LEVEL + 1)
    await execute(
        empty_pg_url,
        "alter table jobs add priority int not null default 0, add note text, drop descriptor, drop status;"
        "alter table jobs_status add n bigint not null generated always as identity;"
        "create table new_things (id int not null)",
    )
    report = await migrate(empty_pg_url)
    assert [str(AMP_LEVEL + 1) in warning for warning in report.warnings] == [True]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("delete from _sqlx_migrations where version >= 20260312000000", "Run Amp's own `ampd migrate`"),
        ("delete from _sqlx_migrations", "no version"),
        ("update _sqlx_migrations set success = false where version = 20260311999999", "1 migration"),
        ("drop table gc_manifest", "table gc_manifest is missing"),
        ("alter table jobs_status rename detail to details", "column jobs_status.detail is missing"),
        (
            "alter table jobs_status alter node_id type varchar(64)",
            r"jobs_status.node_id is character varying\(64\), exp",
        ),
        ("alter table footer_cache alter footer drop not null", "footer_cache.footer may be null"),
        ("alter table file_metadata alter object_size set not null", "file_metadata.object_size must not be null"),
        ("alter table jobs add owner text not null", "jobs.owner is unknown to us, not null and without a default"),
        (
            "drop index unique_file_name_per_location_id",
            r"file_metadata has no unique key on \(location_id, file_name\)",
        ),
        (
            "drop index unique_manifest_table; create unique index on physical_tables"
            " (dataset_namespace, dataset_name, manifest_hash, table_name) where active_revision_id is null",
            "physical_tables has no unique key",
        ),
        ("alter table tags drop constraint tags_pkey; create index on tags (namespace, name, version)", "tags has no"),
    ],
)
async def test_an_amp_database_that_we_cannot_use_is_refused_and_left_alone(
    amp_url: str, change: str, found: str
) -> None:
    await execute(amp_url, change)
    before = await snapshot(amp_url)
    with pytest.raises(SchemaMismatch, match=found):
        await migrate(amp_url)
    with pytest.raises(SchemaMismatch, match=found):
        await ensure(amp_url, auto_migrate=True)
    assert await snapshot(amp_url) == before
    assert await rows(amp_url, "select to_regnamespace('ampd_ray')") == [(None,)]


async def test_every_difference_is_named(amp_url: str) -> None:
    await execute(amp_url, "drop table gc_manifest; drop table tags; alter table workers rename info to about")
    with pytest.raises(SchemaMismatch) as raised:
        await migrate(amp_url)
    assert raised.value.details["differences"] == [
        "column workers.info is missing",
        "table gc_manifest is missing",
        "table tags is missing",
    ]


async def test_a_database_that_amp_upgraded_beyond_us_is_found_at_the_next_start(amp_url: str) -> None:
    await migrate(amp_url)
    await execute(amp_url, "alter table jobs add owner text not null")
    with pytest.raises(SchemaMismatch, match=r"jobs\.owner"):
        await ensure(amp_url, auto_migrate=True)


# -- anything else ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("create table workers (id int); create table shop (id int)", "Tables in public: shop, workers"),
        ("create table workers (id int)", "missing: dataset_manifests, file_metadata"),
        ("create schema ampd_ray; create table ampd_ray.notes (id int)", "Tables in ampd_ray: notes"),
        (
            "create schema ampd_ray; create table ampd_ray.schema_version (version int primary key);"
            "insert into ampd_ray.schema_version values (1)",
            "Tables in public: none",
        ),
        (
            "create schema ampd_ray; create table ampd_ray.schema_version (version int primary key);"
            "insert into ampd_ray.schema_version values (99)",
            "newer ampd-ray",
        ),
    ],
)
async def test_a_database_of_another_make_is_refused_and_left_alone(empty_pg_url: str, before: str, found: str) -> None:
    await execute(empty_pg_url, before)
    tables = "select schemaname::text, tablename::text from pg_tables where schemaname in ('public', 'ampd_ray')"
    there = await rows(empty_pg_url, tables)
    with pytest.raises(SchemaMismatch, match=found):
        await migrate(empty_pg_url)
    with pytest.raises(SchemaMismatch, match=found):
        await ensure(empty_pg_url, auto_migrate=True)
    assert await rows(empty_pg_url, tables) == there


async def test_our_twelve_tables_without_our_schema_are_refused(pg_url: str) -> None:
    await execute(as_owner(pg_url), "drop schema ampd_ray cascade")
    with pytest.raises(SchemaMismatch, match="neither empty nor Amp's nor ours"):
        await migrate(as_owner(pg_url))


async def test_a_shop_in_the_same_database_is_no_obstacle(empty_pg_url: str) -> None:
    await execute(empty_pg_url, "create table shop (id int not null)")
    assert (await migrate(empty_pg_url)).kind is Kind.OURS


async def test_a_server_that_is_too_old_is_refused(empty_pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_OLDEST_SERVER", 990000)
    with pytest.raises(SchemaMismatch, match="15 is the oldest"):
        await migrate(empty_pg_url)


# -- what a worker does at its start ----------------------------------------------------------------------------


async def test_a_start_migrates_when_it_may(empty_pg_url: str) -> None:
    assert (await ensure(empty_pg_url, auto_migrate=True)).created == ("public", "ampd_ray")
    assert (await ensure(empty_pg_url, auto_migrate=True)).created == ()
    assert (await ensure(empty_pg_url, auto_migrate=False)).created == ()


async def test_a_start_that_may_not_migrate_says_what_to_do(empty_pg_url: str) -> None:
    with pytest.raises(SchemaMismatch, match=r"is empty.*Run `ampd migrate`"):
        await ensure(empty_pg_url, auto_migrate=False)
    assert await snapshot(empty_pg_url) == []
    await make_amp(empty_pg_url)
    with pytest.raises(SchemaMismatch, match=r"is not migrated.*Run `ampd migrate`"):
        await ensure(empty_pg_url, auto_migrate=False)


async def test_a_check_reports_and_changes_nothing(amp_url: str) -> None:
    await migrate(amp_url)
    async with session(amp_url) as conn:
        assert await check(conn) == MigrateReport(Kind.AMP, VERSION, (), exclusion=True, warnings=())


# -- overlap and rights -----------------------------------------------------------------------------------------

SEGMENT = (
    "insert into ampd_ray.segment (file_id, location_id, network, blocks, start_parent, end_hash, canonical)"
    " values (%s, %s, %s, int8range(%s, %s, '[]'), '\\x00', '\\x00', %s)"
)


async def test_the_database_refuses_overlapping_canonical_segments(pg_url: str) -> None:
    async with session(pg_url) as conn:
        for values in [
            (1, 7, "mainnet", 0, 9, True),
            (2, 7, "mainnet", 10, 19, True),
            (3, 7, "mainnet", 5, 14, False),
            (4, 7, "sepolia", 5, 14, True),
            (5, 8, "mainnet", 5, 14, True),
        ]:
            await conn.execute(SEGMENT, values)
        with pytest.raises(psycopg.errors.ExclusionViolation):
            await conn.execute(SEGMENT, (6, 7, "mainnet", 19, 29, True))
        with pytest.raises(psycopg.errors.ExclusionViolation):
            await conn.execute("update ampd_ray.segment set canonical = true where file_id = 3")


async def test_without_btree_gist_there_is_a_warning_and_no_constraint(empty_pg_url: str) -> None:
    report = await migrate(empty_pg_url, exclusion=False)
    assert not report.exclusion
    assert any("btree_gist" in warning for warning in report.warnings)
    async with session(empty_pg_url) as conn:
        assert not (await check(conn)).exclusion
        await conn.execute(SEGMENT, (1, 7, "mainnet", 0, 9, True))
        await conn.execute(SEGMENT, (2, 7, "mainnet", 0, 9, True))


async def test_a_btree_gist_that_is_there_already_is_used(amp_url: str) -> None:
    await execute(amp_url, "create schema extensions; create extension btree_gist schema extensions")
    assert (await migrate(amp_url)).exclusion
    await execute(amp_url, "drop schema ampd_ray cascade")
    assert await rows(amp_url, "select count(*) from pg_extension where extname = 'btree_gist'") == [(1,)]


@pytest.fixture
def limited_url(amp_url: str) -> Iterator[str]:
    """Amp's database for a role that may use its tables and create nothing."""
    with psycopg.connect(amp_url, autocommit=True) as admin:
        admin.execute("create role limited login")
        admin.execute("grant all on all tables in schema public to limited")
        yield make_conninfo(amp_url, user="limited")
        admin.execute("drop owned by limited cascade")
        admin.execute("drop role limited")


async def test_a_role_that_may_not_create_is_told_what_to_do(amp_url: str, limited_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="as the owner of the database"):
        await migrate(limited_url)
    assert await rows(amp_url, "select to_regnamespace('ampd_ray')") == [(None,)]


async def test_a_role_with_a_schema_made_for_it_does_without_the_extension(amp_url: str, limited_url: str) -> None:
    await execute(amp_url, "create schema ampd_ray authorization limited")
    report = await migrate(limited_url)
    assert (report.created, report.exclusion) == (("ampd_ray",), False)
    assert any("btree_gist" in warning for warning in report.warnings)
    assert (await ensure(limited_url, auto_migrate=True)).created == ()


def test_every_conflict_target_is_a_column_we_know() -> None:
    known = {(column.table, column.name) for own in COLUMNS.values() for column in own}
    assert {(table, name) for table, key in UNIQUE_KEYS for name in key} <= known
