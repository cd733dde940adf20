"""Sessions: what they are set to, what happens when the server is not there, refuses, or goes silent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ampd_ray.errors import (
    AmpdError,
    CommitUnknown,
    ConfigError,
    DatabaseFault,
    DatabaseRefused,
    DatabaseUnavailable,
    NotUtc,
    SchemaMismatch,
    chain_of,
)
from ampd_ray.metadb import connection, route, session
from ampd_ray.metadb.connection import Connection, Database, Limits, bounded
from tests.fakes.postgres_proxy import PostgresProxy, proxied
from tests.servers import as_owner, owner_of

SECOND = timedelta(seconds=1)
SECRET = "hunter2"


async def scalar(conn: Connection, query: str) -> Any:
    row = await (await conn.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


async def make_things(db: Database, columns: str = "id int") -> None:
    """A table to lock and to write to."""
    async with owner_of(db) as conn:
        await conn.execute(f"create table things ({columns}); grant all on things to public".encode())


@asynccontextmanager
async def opened(url: str, **arguments: Any) -> AsyncIterator[Database]:
    database = Database(url, **arguments)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def cut_url(pg_url: str) -> AsyncIterator[tuple[PostgresProxy, str]]:
    """A proxy in front of the server, and a URL through it."""
    async with proxied(pg_url) as (proxy, url):
        yield proxy, url


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("timezone", "UTC"),
        ("client_encoding", "UTF8"),
        ("datestyle", "ISO, MDY"),
        ("search_path", "public"),
        ("statement_timeout", "30s"),
        ("application_name", "ampd-ray/one/7"),
        ("work_mem", "5MB"),
    ],
)
async def test_every_session_has_our_settings_and_keeps_the_users_own(pg_url: str, setting: str, value: str) -> None:
    url = make_conninfo(pg_url, options="-c work_mem=5MB -c timezone=Asia/Tokyo")
    async with opened(url, application_name="ampd-ray/one/7") as database:
        async with database.connection() as conn:
            assert await scalar(conn, f"select current_setting('{setting}')") == value
        async with database.session() as conn:
            assert await scalar(conn, f"select current_setting('{setting}')") == value


async def test_a_role_default_does_not_override_utc(db: Database, pg_url: str) -> None:
    async with owner_of(db) as conn:
        await conn.execute(
            f"alter database {await scalar(conn, 'select current_database()')} set timezone = 'Asia/Tokyo'".encode()
        )
    async with Database(pg_url).session() as conn:
        assert await scalar(conn, "show timezone") == "UTC"


async def test_a_session_that_is_not_utc_is_refused_at_once(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(route.SETTINGS, "timezone", "America/New_York")
    with pytest.raises(NotUtc, match="America/New_York"):
        await Database(pg_url).open()


@pytest.mark.parametrize(
    "url", [f"postgres//u:{SECRET}@h/d", f"mysql://u:{SECRET}@h/d", f"postgresql://u:{SECRET}@h:x y/d?z"]
)
def test_what_is_no_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Database(url)
    assert SECRET not in "".join(chain_of(raised.value))


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://u@one,two/d", "read-write"),
        ("postgresql://u@one,two/d?target_session_attrs=standby", "standby"),
        ("postgresql://u@one/d", None),
    ],
)
def test_of_several_servers_the_primary_is_looked_for(url: str, wanted: str | None) -> None:
    assert conninfo_to_dict(route.Route(url, "test").conninfo).get("target_session_attrs") == wanted


async def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = Database(f"postgresql://u:{SECRET}@127.0.0.1:{port}/amp")
    with pytest.raises(
        DatabaseUnavailable, match=rf"127\.0\.0\.1:{port}/amp does not answer: Connection refused"
    ) as raised:
        await database.open(within=timedelta(seconds=0.5))
    assert raised.value.retryable
    assert SECRET not in "".join(chain_of(raised.value)) + repr(database)


async def test_a_server_that_does_not_answer_is_given_up_after_the_connect_timeout() -> None:
    writers = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        database = Database(f"postgresql://u@127.0.0.1:{port}/amp?connect_timeout=2")
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await asyncio.wait_for(database.open(within=SECOND), timeout=10)
        assert writers
        for writer in writers:
            writer.close()
            await writer.wait_closed()


async def test_open_waits_for_a_server_that_comes_up_late(pg_url: str) -> None:
    async with proxied(pg_url) as (proxy, url):
        upstream, attempts = proxy.connect, 0

        async def late() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            nonlocal attempts
            attempts += 1
            if attempts <= 2:
                raise ConnectionRefusedError
            return await upstream()

        proxy.connect = late
        async with opened(url) as database, database.connection() as conn:
            assert await scalar(conn, "select 1") == 1
        assert proxy.refused == 2


async def test_an_unknown_database_is_refused_at_once(pg_url: str) -> None:
    with pytest.raises(DatabaseRefused, match="no such database") as raised:
        await Database(make_conninfo(pg_url, dbname="nowhere", password=SECRET)).open()
    assert not raised.value.retryable
    assert SECRET not in "".join(chain_of(raised.value))


async def test_an_unknown_role_is_refused_at_once(pg_url: str) -> None:
    with pytest.raises(DatabaseRefused, match="no such user"):
        await Database(make_conninfo(pg_url, user="nobody_here")).open()


@pytest.fixture
def locked_role(pg_url: str) -> Iterator[str]:
    """A role that must give a password."""
    with psycopg.connect(as_owner(pg_url), autocommit=True) as admin:
        row = admin.execute("show hba_file").fetchone()
        assert row is not None
        hba = Path(row[0])
        before = hba.read_text()
        hba.write_text(f"local all locked scram-sha-256\nhost all locked all scram-sha-256\n{before}")
        admin.execute("create role locked login password 'right'")
        admin.execute("select pg_reload_conf()")
        yield "locked"
        hba.write_text(before)
        admin.execute("select pg_reload_conf()")
        admin.execute("drop role locked")


@pytest.mark.parametrize(
    ("password", "reason"), [(SECRET, "the user or the password is wrong"), ("", "asks for a password")]
)
async def test_a_wrong_password_is_refused_at_once(pg_url: str, locked_role: str, password: str, reason: str) -> None:
    with pytest.raises(DatabaseRefused, match=reason) as raised:
        await Database(make_conninfo(pg_url, user=locked_role, password=password)).open()
    assert SECRET not in "".join(chain_of(raised.value))


async def test_a_pool_that_is_not_open_says_so(pg_url: str) -> None:
    with pytest.raises(DatabaseFault, match="not open"):
        async with Database(pg_url).connection():
            pass


async def test_the_pool_is_bounded_and_waiting_for_it_too(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ACQUIRE_TIMEOUT", timedelta(milliseconds=100))
    async with opened(pg_url, pool_size=1) as database, database.connection():
        with pytest.raises(DatabaseUnavailable):
            async with database.connection():
                pass


@pytest.mark.parametrize("steps", range(6))
async def test_whoever_is_cancelled_while_it_gets_a_session_stays_cancelled(pg_url: str, steps: int) -> None:
    """In whichever step of the loop the cancellation meets the session that becomes free.

    A task that goes on as if nothing had been said is waited for in vain: so did a job that had done all its work.
    """
    async with opened(pg_url, application_name="test", pool_size=1) as database:
        async with database.connection():
            waiting = asyncio.create_task(_hold(database))
            await asyncio.sleep(0.01)  # it stands in the queue now
        for _ in range(steps):
            await asyncio.sleep(0)
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert done, "the cancellation was lost"
        assert waiting.cancelled()
        async with database.connection() as conn:
            assert await scalar(conn, "select 1") == 1


async def _hold(database: Database) -> None:
    async with database.connection():
        await asyncio.Event().wait()


async def test_the_pool_survives_the_loss_of_its_sessions(db: Database) -> None:
    async with db.session() as admin:
        async with db.connection() as conn:
            before = await scalar(conn, "select pg_backend_pid()")
        killed = await scalar(
            admin,
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()",
        )
        assert killed > 0
        async with db.connection() as conn:
            assert await scalar(conn, "select pg_backend_pid()") != before


async def test_a_transaction_is_bounded_and_durable(db: Database) -> None:
    async with db.transaction() as conn:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit")
        assert [await scalar(conn, f"show {name}") for name in names] == ["10s", "3s", "3s", "on"]
        assert await scalar(conn, "show transaction_isolation") == "read committed"


async def test_a_statement_that_takes_too_long_is_transient(db: Database) -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        async with db.transaction(Limits(statement=timedelta(milliseconds=50))) as conn:
            await conn.execute("select pg_sleep(30)")
    assert raised.value.details["sqlstate"] == "57014"


async def test_waiting_too_long_for_a_lock_is_transient(db: Database) -> None:
    await make_things(db)
    async with db.transaction() as conn:
        await conn.execute("lock table things")
        with pytest.raises(DatabaseUnavailable) as raised:
            async with db.transaction(Limits(lock=timedelta(milliseconds=50))) as other:
                await other.execute("select from things")
    assert raised.value.details["sqlstate"] == "55P03"


async def test_idling_inside_a_transaction_ends_it(db: Database) -> None:
    async def idle() -> None:
        async with db.transaction(Limits(idle=timedelta(milliseconds=50))) as conn, db.session() as watch:
            await _until_gone(watch, conn.info.backend_pid)
            await conn.execute("select 1")

    with pytest.raises(DatabaseUnavailable):
        await idle()


async def _until_gone(watch: Connection, pid: int) -> None:
    while await scalar(watch, f"select count(*) from pg_stat_activity where pid = {pid}"):
        pass


async def test_an_exception_rolls_back(db: Database) -> None:
    await make_things(db)
    with pytest.raises(DatabaseFault, match="division by zero"):
        async with db.transaction() as conn:
            await conn.execute("insert into things values (1); select 1/0")
    async with db.connection() as conn:
        assert await scalar(conn, "select count(*) from things") == 0


async def test_a_swallowed_error_does_not_pass_for_a_commit(db: Database) -> None:
    with pytest.raises(DatabaseFault, match="swallowed"):
        async with db.transaction() as conn:
            await asyncio.gather(conn.execute("select 1/0"), return_exceptions=True)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("select 1/0", DatabaseFault),
        ("select * from nowhere", SchemaMismatch),
        ("select nothing from workers", SchemaMismatch),
        ("select * from nowhere.nothing", SchemaMismatch),
        ("do $$ begin raise sqlstate '53300'; end $$", DatabaseUnavailable),
        ("do $$ begin raise sqlstate '40P01'; end $$", DatabaseUnavailable),
        ("do $$ begin raise sqlstate '08006'; end $$", DatabaseUnavailable),
    ],
)
async def test_errors_leave_as_ours_and_name_the_database(db: Database, statement: str, error: type[AmpdError]) -> None:
    with pytest.raises(error, match=db.name):
        async with db.connection() as conn:
            await conn.execute(statement.encode())


@pytest.mark.parametrize(
    "error", [psycopg.InternalError("received 2 results from command 'BEGIN'"), psycopg.errors.ReadOnlySqlTransaction()]
)
async def test_a_session_that_is_of_no_use_any_more_is_not_given_out_again(db: Database, error: psycopg.Error) -> None:
    """It answers out of step, as when a pooler passes on a dying server's last words; or it may not write."""
    with pytest.raises(DatabaseUnavailable):
        async with db.connection() as conn:
            raise error
    assert conn.closed
    async with db.connection() as conn:
        assert await scalar(conn, "select 1") == 1


async def test_a_commit_whose_request_was_lost_is_unknown_and_did_not_happen(
    db: Database, cut_url: tuple[PostgresProxy, str]
) -> None:
    assert await _lose_commit(db, cut_url, answers_only=False) == 0


async def test_a_commit_whose_answer_was_lost_is_unknown_and_did_happen(
    db: Database, cut_url: tuple[PostgresProxy, str]
) -> None:
    assert await _lose_commit(db, cut_url, answers_only=True) == 1


async def _lose_commit(db: Database, cut_url: tuple[PostgresProxy, str], *, answers_only: bool) -> int:
    """Lose the session during COMMIT; how many rows there are then."""
    proxy, url = cut_url
    await make_things(db)

    async def cut() -> int:
        await proxy.until(lambda: proxy.swallowed > 0)
        return await proxy.cut()

    pid = 0

    async def insert(through: Database) -> None:
        nonlocal pid
        async with through.transaction() as conn:
            await conn.execute("insert into things values (1)")
            pid = conn.info.backend_pid
            proxy.go_silent(answers_only=answers_only)

    async with opened(url, pool_size=1) as through:
        cutting = asyncio.create_task(cut())
        with pytest.raises(CommitUnknown, match="during COMMIT"):
            await insert(through)
        assert await cutting >= 1
        assert proxy.swallowed > 0
    async with db.session() as conn:
        await _until_gone(conn, pid)
        return int(await scalar(conn, "select count(*) from things"))


async def test_losing_the_session_before_commit_is_no_unknown_outcome(cut_url: tuple[PostgresProxy, str]) -> None:
    proxy, url = cut_url

    async def lose(through: Database) -> None:
        async with through.transaction() as conn:
            assert await proxy.cut() >= 1
            await conn.execute("select 1")

    async with opened(url, pool_size=1) as through:
        with pytest.raises(DatabaseUnavailable) as raised:
            await lose(through)
    assert not isinstance(raised.value, CommitUnknown)


async def test_a_commit_that_the_database_refuses_is_no_unknown_outcome(db: Database) -> None:
    await make_things(db, "id int unique deferrable initially deferred")
    with pytest.raises(DatabaseFault, match="things_id_key"):
        async with db.transaction() as conn:
            await conn.execute("insert into things values (1), (1)")


async def test_a_silent_session_is_closed_after_the_bound(cut_url: tuple[PostgresProxy, str]) -> None:
    proxy, url = cut_url
    conn = await Database(url).connect_session()
    assert await bounded(conn, scalar(conn, "select 7"), SECOND) == 7
    proxy.go_silent()
    with pytest.raises(DatabaseUnavailable, match=r"within 0\.1 s"):
        await asyncio.wait_for(bounded(conn, scalar(conn, "select 7"), timedelta(seconds=0.1)), timeout=2)
    assert conn.closed
    assert proxy.swallowed > 0


async def test_whoever_asks_without_a_bound_gives_up_on_a_silent_server_too(
    cut_url: tuple[PostgresProxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a transaction sooner than without, by as much as the server may take there."""
    monkeypatch.setattr(session, "GRACE", timedelta(seconds=0.5))
    proxy, url = cut_url
    async with opened(url, pool_size=1) as through:

        async def ask() -> None:
            async with asyncio.timeout(5), through.transaction(Limits(statement=timedelta(seconds=0.1))) as conn:
                proxy.go_silent()
                await conn.execute("select 7")

        with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.6 s"):
            await ask()
        assert proxy.swallowed > 0
        async with through.connection() as conn:  # another session
            assert await scalar(conn, "select 7") == 7
            assert conn.statement_timeout == session.STATEMENT_TIMEOUT


async def test_a_commit_that_is_never_answered_is_an_unknown_outcome(
    db: Database, cut_url: tuple[PostgresProxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_things(db)
    monkeypatch.setattr(session, "GRACE", timedelta(seconds=0.5))
    proxy, url = cut_url
    async with opened(url) as through:

        async def commit() -> None:
            async with asyncio.timeout(5), through.transaction(Limits(statement=timedelta(seconds=0.1))) as conn:
                await conn.execute("insert into things values (1)")
                proxy.go_silent(answers_only=True)

        with pytest.raises(CommitUnknown):
            await commit()


async def test_a_transaction_of_a_process_that_stands_still_lets_its_locks_go(db: Database) -> None:
    async def stand_still() -> None:
        async with db.transaction() as conn:
            await conn.execute("lock table things")
            async with db.transaction(Limits(lock=timedelta(seconds=5))) as other:
                await other.execute("lock table things")
            await conn.execute("select 7")

    await make_things(db)
    with pytest.raises(DatabaseUnavailable, match="idle-in-transaction timeout"):
        await stand_still()
