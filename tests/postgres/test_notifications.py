"""The listener heals itself: cut, silent or refused, it comes back, says so, and hears what is sent after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from datetime import timedelta
from typing import TypeVar

import pytest

from ampd_ray.errors import NotUtc
from ampd_ray.metadb import notifications, route
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.notifications import Action, Notification, Reconnected, listen, notify, notify_job, supports_listen
from tests.fakes.postgres_proxy import PostgresProxy, proxied

T = TypeVar("T")

PROBES = {"probe_every": timedelta(milliseconds=100), "probe_within": timedelta(milliseconds=200)}


@pytest.fixture
async def through(pg_url: str) -> AsyncIterator[tuple[PostgresProxy, Database]]:
    """A proxy, and the database behind it."""
    async with proxied(pg_url) as (proxy, url):
        yield proxy, Database(url)


async def send(db: Database, channel: str, payload: str) -> None:
    async with db.connection() as conn:
        await notify(conn, channel, payload)


async def soon(next_one: Awaitable[T]) -> T:
    return await asyncio.wait_for(next_one, timeout=20)


async def test_it_says_when_it_listens_and_hears_what_is_sent(db: Database) -> None:
    async with aclosing(listen(db.connect_session, "change-tracking")) as heard:
        assert await soon(anext(heard)) == Reconnected(1)
        await send(db, "change-tracking", "42")
        await send(db, "other", "43")
        await send(db, "change-tracking", "44")
        assert await soon(anext(heard)) == Notification("change-tracking", "42")
        assert await soon(anext(heard)) == Notification("change-tracking", "44")


async def test_a_hint_arrives_when_its_transaction_commits_and_once(db: Database) -> None:
    async with aclosing(listen(db.connect_session, "job_actions")) as heard:
        await soon(anext(heard))
        async with db.transaction() as conn:
            await notify_job(conn, "one", 7, Action.STOP)
            await notify_job(conn, "one", 7, Action.STOP)
            await send(db, "job_actions", "first")
            assert await soon(anext(heard)) == Notification("job_actions", "first")
        payload = '{"node_id":"one","payload":{"job_id":7,"action":"STOP"}}'
        assert await soon(anext(heard)) == Notification("job_actions", payload)
        await send(db, "job_actions", "last")
        assert await soon(anext(heard)) == Notification("job_actions", "last")


async def test_what_is_sent_between_waits_and_probes_is_heard(db: Database) -> None:
    async with aclosing(listen(db.connect_session, "c", probe_every=timedelta(0))) as heard:
        await soon(anext(heard))
        for number in range(200):
            await send(db, "c", str(number))
        assert [await soon(anext(heard)) for _ in range(200)] == [Notification("c", str(n)) for n in range(200)]


@pytest.mark.parametrize("answers_only", [False, True])
async def test_a_half_open_session_is_replaced(
    db: Database, through: tuple[PostgresProxy, Database], answers_only: bool, caplog: pytest.LogCaptureFixture
) -> None:
    proxy, behind = through
    async with aclosing(listen(behind.connect_session, "c", **PROBES)) as heard:
        assert await soon(anext(heard)) == Reconnected(1)
        proxy.go_silent(answers_only=answers_only)
        await send(db, "c", "lost")
        assert await soon(anext(heard)) == Reconnected(2)
        assert proxy.swallowed > 0
        assert proxy.connections == 2
        await send(db, "c", "heard")
        assert await soon(anext(heard)) == Notification("c", "heard")
    assert "listener on c lost its session" in caplog.text


async def test_a_cut_session_is_replaced_though_the_server_refuses_for_a_while(
    db: Database, through: tuple[PostgresProxy, Database]
) -> None:
    proxy, behind = through
    upstream = proxy.connect

    async def refuse() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if proxy.refused == 2:
            proxy.connect = upstream
            return await upstream()
        raise ConnectionRefusedError

    async with aclosing(listen(behind.connect_session, "c", **PROBES)) as heard:
        await soon(anext(heard))
        proxy.connect = refuse
        assert await proxy.cut() == 1
        assert await soon(anext(heard)) == Reconnected(2)
        assert proxy.refused == 2
        await send(db, "c", "heard")
        assert await soon(anext(heard)) == Notification("c", "heard")


async def test_a_terminated_session_is_replaced(db: Database) -> None:
    sessions: list[Connection] = []

    async def connect() -> Connection:
        sessions.append(await db.connect_session())
        return sessions[-1]

    async with aclosing(listen(connect, "c")) as heard:
        await soon(anext(heard))
        async with db.connection() as conn:
            await conn.execute("select pg_terminate_backend(%s)", [sessions[0].info.backend_pid])
        assert await soon(anext(heard)) == Reconnected(2)
        assert sessions[0].closed
    assert sessions[1].closed


async def test_the_log_is_one_line_for_each_attempt(
    through: tuple[PostgresProxy, Database], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "RECONNECT_LAST", timedelta(milliseconds=100))
    proxy, behind = through

    async def refuse() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise ConnectionRefusedError

    proxy.connect = refuse
    with caplog.at_level(logging.WARNING):
        async with aclosing(listen(behind.connect_session, "c", **PROBES)) as heard:
            waiting = asyncio.ensure_future(anext(heard))
            await soon(proxy.until(lambda: proxy.refused == 3))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    lines = [record for record in caplog.records if "listener on c" in record.message]
    assert len(lines) in (2, 3)
    assert not any(record.exc_info for record in lines)


async def test_cancelling_closes_the_session(db: Database) -> None:
    sessions: list[Connection] = []

    async def connect() -> Connection:
        sessions.append(await db.connect_session())
        return sessions[-1]

    heard = listen(connect, "c")
    await soon(anext(heard))
    waiting = asyncio.ensure_future(anext(heard))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert sessions[0].closed


async def test_direct_sessions_pass_the_self_test(db: Database) -> None:
    assert await supports_listen(db)


@pytest.mark.parametrize(
    "pids",
    [
        pytest.param([1, 1], id="both sessions are given one"),
        pytest.param([1, 2, 3], id="it is given another one"),
    ],
)
async def test_a_session_without_a_server_process_of_its_own_fails_the_self_test(
    db: Database, monkeypatch: pytest.MonkeyPatch, pids: list[int]
) -> None:
    given = iter(pids)

    async def backend(_: Connection) -> int:
        return next(given)

    monkeypatch.setattr(notifications, "_backend", backend)
    assert not await supports_listen(db)


async def test_a_listener_that_hears_nothing_fails_the_self_test(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(_: Connection, __: str) -> None:
        """LISTEN went to another server process."""

    monkeypatch.setattr(notifications, "_listen", deaf)
    assert not await supports_listen(db, within=timedelta(milliseconds=100))


async def test_a_listener_never_works_on_a_session_that_is_not_utc(
    pg_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(route.SETTINGS, "timezone", "Asia/Tokyo")
    with pytest.raises(NotUtc):
        await Database(pg_url).connect_session()
