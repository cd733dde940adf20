"""The lines do what their faults are called, and count it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from aiohttp import ClientError, ClientSession
from psycopg.conninfo import make_conninfo

from ampd_ray.devnet.chain import DevChain
from tests.chaos.lines import DatabaseLine, RpcLine
from tests.chaos.plan import OfJob, Outside
from tests.servers import Server, as_owner, fresh_database

HEAD = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}


@pytest.fixture(scope="module")
def url(embedded: Server) -> Iterator[str]:
    with fresh_database(embedded) as fresh:
        with psycopg.connect(as_owner(fresh), autocommit=True) as connection:
            connection.execute("create table t (n int); grant all on t to public")
        yield fresh


@pytest.fixture
async def line(url: str) -> AsyncIterator[DatabaseLine]:
    async with DatabaseLine(url) as line:
        yield line


async def connect(line: DatabaseLine, url: str, name: str = "ampd-ray/north/x/writer") -> Any:
    through = make_conninfo(url, host="127.0.0.1", port=line.port, application_name=name, sslmode="disable")
    return await psycopg.AsyncConnection.connect(through)


def rows(url: str, number: int) -> int:
    with psycopg.connect(url) as connection:
        return len(connection.execute("select from t where n = %s", [number]).fetchall())


@pytest.mark.parametrize(("fault", "there"), [(Outside.COMMIT_UNSENT, 0), (Outside.COMMIT_UNHEARD, 1)])
async def test_a_commit_is_cut_before_or_after(line: DatabaseLine, url: str, fault: Outside, there: int) -> None:
    number = 10 + there
    writer, other = await connect(line, url), await connect(line, url, "ampd-ray/north/x")
    for each in (writer, other):
        await each.execute("insert into t values (%s)", [number])
    await line.disturb(fault)
    await other.rollback()
    with pytest.raises(psycopg.OperationalError):
        await writer.commit()
    assert line.fired == {fault: 1}
    await other.execute("insert into t values (0)")
    await other.commit()
    await other.close()
    assert rows(url, number) == there


async def test_what_is_held_back_arrives_late(line: DatabaseLine, url: str) -> None:
    connection = await connect(line, url)
    await connection.set_autocommit(True)
    await line.disturb(Outside.BLACKHOLE)
    sent = asyncio.create_task(connection.execute("insert into t values (20)"))
    _, waiting = await asyncio.wait({sent}, timeout=0.2)
    assert waiting
    assert line.fired[Outside.BLACKHOLE]
    assert rows(url, 20) == 0
    line.mend()
    await sent
    assert rows(url, 20) == 1
    await connection.close()


async def test_a_cut_line_ends_sessions_and_refuses_new_ones(line: DatabaseLine, url: str) -> None:
    connection = await connect(line, url)
    await line.disturb(Outside.CUT)
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("select 1")
    with pytest.raises(psycopg.OperationalError):
        await connect(line, url)
    assert line.fired[Outside.CUT] == 2
    line.mend()
    await (await connect(line, url)).close()


async def test_a_slow_line_delays(line: DatabaseLine, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.lines.LATENCY_SECS", 0.001)
    connection = await connect(line, url)
    await line.disturb(Outside.LATENCY)
    await connection.execute("select 1")
    assert line.fired[Outside.LATENCY] >= 2
    await connection.close()


@pytest.mark.parametrize("fault", [fault for fault in OfJob if fault is not OfJob.STOP_RESUME])
async def test_a_node_answers_wrongly_while_it_is_disturbed(fault: OfJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.lines.SLOW_SECS", 0.001)
    async with RpcLine(DevChain()) as line, ClientSession(f"http://127.0.0.1:{line.port}") as session:

        async def head() -> Any:
            async with session.post("/any/path", json=HEAD) as response:
                response.raise_for_status()
                return (await response.json())["result"]

        assert await head() == "0x0"
        line.fault = fault
        if fault is OfJob.RPC_SLOW:
            assert await head() == "0x0"
        else:
            with pytest.raises((ClientError, ValueError)):
                await head()
        assert line.fired == {fault: 1}
        line.fault = None
        assert await head() == "0x0"
