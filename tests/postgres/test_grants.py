"""The roles of least privilege: each right that they have is needed, and what is not needed is refused."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner, Result

from ampd_ray.cli.app import app
from ampd_ray.errors import DatabaseRefused, SchemaMismatch, UsageError
from ampd_ray.metadb import jobs
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.grants import Access, Right, rights
from ampd_ray.metadb.queries import Query, load
from ampd_ray.metadb.schema import ensure, migrate
from tests.docs.pages import DOCS, fences
from tests.postgres.test_queries import FILES, MIGRATIONS, numbered
from tests.postgres.test_schema import make_amp
from tests.servers import GRANTS, READER, WORKER, Server, as_owner, as_user, run_apart

OF_THE_OWNER = {"record_version", "amp_migrations"}  # the latter is of a table of Amp's, which is not here
Named = dict[str, Query]


def blocks() -> Named:
    """Every statement that a session may have to run, by file and name."""
    return {
        f"{path.stem}_{name}": query
        for path in FILES
        if path.name not in MIGRATIONS
        for name, query in load(path).items()
        if "{role}" not in query.decode() and name not in OF_THE_OWNER
    }


@pytest.fixture
async def owner(pg_url: str) -> AsyncIterator[Connection]:
    """The owner's session, in which every statement is prepared; what a test grants is undone."""
    async with Database(as_owner(pg_url)).session() as conn, conn.transaction(force_rollback=True):
        for name, query in blocks().items():
            await conn.execute(f"prepare {name} as ".encode() + numbered(query))
        yield conn


async def refused(conn: Connection, role: str, statements: Named) -> set[str]:
    """Which of them the role may not run. Postgres says so before it runs anything."""
    found = set()
    for name, query in statements.items():
        values = ", ".join(["null"] * len(set(re.findall(r"%\((\w+)\)s", query.decode()))))
        try:
            async with conn.transaction():
                await conn.execute(f"set local role {role}".encode())
                await conn.execute(f"explain execute {name}{values and f'({values})'}".encode())
        except psycopg.errors.InsufficientPrivilege:
            found.add(name)
    return found


def of_reader(query: Query) -> bool:
    """A statement that neither changes nor locks a row."""
    return not re.search(
        r"^\s*(insert|update|delete)\b|\bfor (update|share)\b|\bas \(\s*(insert|update)", query.decode(), re.M
    )


async def test_a_worker_may_run_every_statement_and_a_reader_those_that_only_look(owner: Connection) -> None:
    every = blocks()
    assert await refused(owner, WORKER, every) == set()
    assert await refused(owner, READER, every) == {name for name, query in every.items() if not of_reader(query)}
    assert len(every) > 150


@pytest.mark.parametrize("role", [WORKER, READER])
async def test_no_right_can_be_spared(owner: Connection, role: str) -> None:
    """Each right, taken away for a moment, is missed by a statement."""
    needed = {name: query for name, query in blocks().items() if role == WORKER or of_reader(query)}
    spared = []
    for right in rights(GRANTS[role]):
        table = right.relation.partition(".")[2].encode()
        near = {name: query for name, query in needed.items() if re.search(rb"\b%b\b" % table, query)}
        async with owner.transaction(force_rollback=True):
            column = f"({right.column})" if right.column else ""
            await owner.execute(f"revoke {right.privilege}{column} on {right.relation} from {role}".encode())
            if not await refused(owner, role, near):
                spared.append(right)
    assert spared == []


FORBIDDEN = {
    "a table": "create table mine (id int)",
    "a table beside ours": "create table ampd_ray.mine (id int)",
    "a schema": "create schema mine",
    "a temporary table": "create temporary table mine (id int)",
    "a function": "create function public.f() returns int language sql as 'select 1'",
    "an extension": "create extension pg_trgm",
    "a role": "create role mine",
    "a column": "alter table jobs add mine int",
    "a trigger": "create trigger t before insert on jobs execute function suppress_redundant_updates_trigger()",
    "an index": "create index on jobs (node_id)",
    "an empty table": "truncate ampd_ray.segment",
    "no table": "drop table ampd_ray.segment",
    "no triggers": "set session_replication_role = replica",
    "another history": "update job_events set event_type = 'COMPLETED'",
    "no history": "delete from job_events",
    "another job": "update jobs set idempotency_key = 'x'",
    "another manifest": "update manifest_files set path = '../x'",
    "no manifest": "delete from manifest_files",
    "another file": "update file_metadata set url = 'file:///etc'",
    "no worker": "delete from workers",
    "another version": "insert into ampd_ray.schema_version values (99)",
    "another chain": "update ampd_ray.network set chain_id = 1",
    "passwords": "select rolpassword from pg_authid",
    "a file of the server": "select pg_read_file('/etc/passwd')",
    "a program of the server": "copy jobs to program 'true'",
    "the owner": "set role postgres",
}


async def test_what_a_worker_does_not_need_is_refused(pg_url: str) -> None:
    may = set(FORBIDDEN)
    async with Database(pg_url).session() as conn:
        for what, statement in FORBIDDEN.items():
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                await conn.execute(statement.encode())
                continue
            may.remove(what)
    assert may == set()


async def test_a_worker_passes_no_right_on(pg_url: str) -> None:
    acl = "select relacl::text from pg_class where relname = 'jobs'"
    async with Database(pg_url).session() as conn:
        before = await (await conn.execute(acl)).fetchall()
        await conn.execute("grant select on jobs to public")  # a warning only
        assert await (await conn.execute(acl)).fetchall() == before


async def test_a_reader_changes_nothing(pg_url: str) -> None:
    async with Database(as_user(READER, pg_url)).session() as conn:
        assert await jobs.list_jobs(conn) == []
        for right in rights(Access.WORKER):
            if right.privilege == "insert":
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await conn.execute(f"insert into {right.relation} default values".encode())
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await conn.execute(f"delete from {right.relation}".encode())


# -- giving them ------------------------------------------------------------------------------------------------


@pytest.fixture
def role(server: Server) -> Iterator[str]:
    """A role that may come in and nothing else, with a name that has to be quoted."""
    name = 'we"ird; Role'
    quoted = sql.Identifier(name).as_string()
    server.execute(f"create role {quoted} login")
    yield name
    server.execute(f"drop role {quoted}")


async def may(url: str, role: str, access: Access) -> set[Right]:
    """What of all rights a role has, table by table."""
    async with Database(url).session() as conn:
        ask = (
            "select case when %(c)s = '' then has_table_privilege(%(o)s, %(t)s, %(p)s)"
            " else has_column_privilege(%(o)s, %(t)s, %(c)s, %(p)s) end as it_may"
        )
        found = set()
        for right in rights(access):
            values = {"o": role, "t": right.relation, "p": right.privilege, "c": right.column}
            (row,) = await (await conn.execute(ask, values)).fetchall()
            if row.it_may:
                found.add(right)
        return found


async def test_what_was_granted_before_is_withdrawn(role: str, empty_pg_url: str) -> None:
    url, all_rights = empty_pg_url, set(rights(Access.WORKER))
    await migrate(url, grants={role: Access.WORKER})
    assert await may(url, role, Access.WORKER) == all_rights
    async with Database(url).session() as conn:
        await conn.execute('grant truncate, update on jobs to "we""ird; Role"')
    await migrate(url, grants={role: Access.READER})
    assert await may(url, role, Access.WORKER) == set(rights(Access.READER))
    assert await may(url, role, Access.WORKER) < all_rights
    assert await may(url, "pg_monitor", Access.WORKER) == set()


async def test_it_is_said_what_a_role_may_do_beyond(role: str, empty_pg_url: str) -> None:
    async with Database(empty_pg_url).session() as conn:
        ((name,),) = await (await conn.execute("select current_database()")).fetchall()
        await conn.execute("grant create on schema public to public")
        await conn.execute(f"grant temporary on database {name} to public".encode())
    warnings = (await migrate(empty_pg_url, grants={role: Access.WORKER})).warnings
    statements = [found for warning in warnings for found in re.findall(r"`(revoke .*)`", warning)]
    assert len(statements) == 2
    async with Database(empty_pg_url).session() as conn:
        for statement in statements:
            await conn.execute(statement.encode())
    assert (await migrate(empty_pg_url, grants={role: Access.WORKER})).warnings == ()


UNFIT = {
    "nobody": 'there is no role nobody to grant anything to; first have it made: `create role "nobody" login',
    "public": "there is no role public",
    "postgres": "role postgres is a superuser: no grant can limit it",
    "owner": "role owner owns the tables, or is a member of the role that does",
    "member": "role member owns the tables, or is a member of the role that does",
}


async def test_roles_that_are_unfit_are_refused_and_nothing_is_done(empty_pg_url: str) -> None:
    async with Database(empty_pg_url).session() as conn:
        ((name,),) = await (await conn.execute("select current_database()")).fetchall()
        await conn.execute("create role owner login; create role member login; grant owner to member")
        await conn.execute(f"grant create on database {name} to owner; grant create on schema public to owner".encode())
        try:
            for role, reason in UNFIT.items():
                with pytest.raises(UsageError, match=re.escape(reason)):
                    await migrate(as_user("owner", empty_pg_url), grants={role: Access.WORKER})
                with pytest.raises(SchemaMismatch, match="is empty"):
                    await ensure(empty_pg_url, auto_migrate=False)
        finally:
            await conn.execute("drop owned by owner; drop role member, owner")


async def test_in_amps_database_its_migrations_are_seen_and_nothing_else_of_them(role: str, empty_pg_url: str) -> None:
    await make_amp(empty_pg_url)
    await migrate(empty_pg_url, grants=GRANTS | {role: Access.WORKER})
    async with Database(as_user(READER, empty_pg_url)).session() as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await conn.execute("select checksum from _sqlx_migrations")
    report = await ensure(as_user(WORKER, empty_pg_url), auto_migrate=True)
    assert (report.kind, report.created) == ("amp", ())


async def test_the_statements_of_the_page_leave_nothing_to_warn_of(empty_pg_url: str) -> None:
    (fence,) = fences(DOCS / "how-to" / "database.md", "sql")
    async with Database(empty_pg_url).session() as conn:
        ((name,),) = await (await conn.execute("select current_database()")).fetchall()
        await conn.execute(fence.text.replace("amp_", "docs_").replace("database amp", f"database {name}").encode())
        try:
            grants = {"docs_worker": Access.WORKER, "docs_reader": Access.READER}
            await migrate(empty_pg_url, grants=grants)
            assert (await migrate(empty_pg_url, grants=grants)).warnings == ()
        finally:
            await conn.execute("drop owned by docs_worker, docs_reader; drop role docs_worker, docs_reader")


def test_the_command_grants_and_says_what(empty_pg_url: str, tmp_path: Path) -> None:
    config = tmp_path / "owner.toml"
    config.write_text(f'[metadata_db]\nurl = "{empty_pg_url}"\n')

    def migrates(*words: str) -> Result:
        return CliRunner().invoke(app, ["migrate", "--config", str(config), "--json", *words])

    refused = migrates("--grant", WORKER, "--grant-read-only", "nobody")
    assert (refused.exit_code, "there is no role nobody" in refused.stderr) == (2, True)
    done = migrates("--grant", WORKER, "--grant-read-only", READER)
    assert json.loads(done.stdout)["granted"] == {READER: "reader", WORKER: "worker"}
    run_apart(lambda: ensure(as_user(WORKER, empty_pg_url), auto_migrate=True))


# -- having them ------------------------------------------------------------------------------------------------


async def test_a_worker_that_lacks_a_right_says_which_at_its_start(pg_url: str) -> None:
    await ensure(pg_url, auto_migrate=True)
    async with Database(as_owner(pg_url)).session() as conn:
        await conn.execute("revoke update (status) on jobs_status from amp_worker")
        await conn.execute("revoke delete on ampd_ray.segment from amp_worker")
    with pytest.raises(SchemaMismatch) as raised:
        await ensure(pg_url, auto_migrate=True)
    assert "it lacks update (status) on public.jobs_status, delete on ampd_ray.segment." in raised.value.message
    assert "Have the owner run `ampd migrate --grant amp_worker`" in raised.value.message


async def test_a_role_without_any_right_is_told_the_way_out(empty_pg_url: str) -> None:
    await migrate(empty_pg_url)
    with pytest.raises(DatabaseRefused, match=r"permission denied for schema ampd_ray.*migrate --grant"):
        await ensure(as_user(WORKER, empty_pg_url), auto_migrate=True)


async def test_a_worker_may_not_upgrade_the_schema_and_says_who_may(pg_url: str) -> None:
    async with Database(as_owner(pg_url)).session() as conn:
        await conn.execute("delete from ampd_ray.schema_version where version > 2")
    with pytest.raises(SchemaMismatch, match=r"as the owner of the database .with `--grant ROLE`"):
        await ensure(pg_url, auto_migrate=True)
