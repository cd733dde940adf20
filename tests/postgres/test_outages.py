"""A server is restarted, crashes, is away for half a minute: the node lives, its job goes on, each block is there once.

Everything is real but Ray; the server is as durable as any.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ampd_ray.materialize.types import WriterOptions
from ampd_ray.metadb.connection import Database
from ampd_ray.node.coordinator import Coordinator
from tests.fakes.bench import NODE, Bench, until
from tests.fakes.devnet import Devnet
from tests.fakes.own_postgres import OwnPostgres, Stop, own_postgres
from tests.postgres.works import works

OUTAGE_SECS = float(os.environ.get("AMPD_OUTAGE_SECS", "30"))
RESUMED_SECS = 5.0
FIRST, PART, PARTS = 40, 40, 4
LAST = FIRST + PART * PARTS


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with own_postgres() as running:
        yield running


@pytest.fixture
async def bench(server: OwnPostgres, tmp_path: Path, devnet_server: Callable[..., Devnet]) -> AsyncIterator[Bench]:
    """A chain that grows when a test wants it, and a job that follows it to its end."""
    db = Database(server.url, application_name="ampd-ray/test")
    await db.open()
    made = Bench(db, tmp_path, devnet_server(FIRST), options=WriterOptions(segment_blocks=10))
    yield made
    await made.close()
    await db.close()


async def resumed(bench: Bench, height: int) -> float:
    """Seconds until a block above ``height`` is committed."""
    started = time.monotonic()

    async def higher() -> bool:
        (row,) = await bench.query("select max(upper(blocks)) - 1 as tip from ampd_ray.segment")
        return (row.tip or 0) > height

    await until(higher)
    return time.monotonic() - started


def reconnected(nodes: list[Coordinator]) -> list[int]:
    return [node.counters.session_reconnects for node in nodes]


def all_reconnected(nodes: list[Coordinator], before: list[int]) -> bool:
    return all(now > then for now, then in zip(reconnected(nodes), before, strict=True))


async def test_a_job_outlives_a_restart_a_crash_and_a_long_outage(server: OwnPostgres, bench: Bench) -> None:
    job = await bench.job(end_block=str(LAST))
    took: dict[str, float] = {}
    async with works(bench, server.url, NODE) as node, works(bench, server.url, "peer") as peer:
        nodes = [node.coordinator, peer.coordinator]
        await until(lambda: all(each.counters.listens for each in nodes))
        for name, how, secs in (
            ("restart", Stop.FAST, 0.0),
            ("crash", Stop.IMMEDIATE, 0.0),
            ("kill", Stop.KILLED, 0.0),
            ("outage", Stop.FAST, OUTAGE_SECS),
        ):
            reconnects = reconnected(nodes)
            bench.devnet.mine(PART // 2)
            await asyncio.to_thread(server.stop, how)  # in the midst of the work
            bench.devnet.mine(PART // 2)
            await asyncio.sleep(secs)
            await asyncio.to_thread(server.start)
            took[name] = await resumed(bench, bench.devnet.chain.head.number - PART // 2)
            await until(partial(all_reconnected, nodes, reconnects))
        await until(lambda: status_is(bench, job.id, "COMPLETED"))
        assert [each.counters.takeovers for each in nodes] == [0, 0]
        assert (node.coordinator.counters.job_starts, peer.coordinator.counters.job_starts) == (1, 0)
        assert not any(each.done() for each in (node.task, peer.task) if each)
    print({name: round(secs, 2) for name, secs in took.items()})
    assert server.stops == 4
    assert max(took.values()) < RESUMED_SECS
    await bench.assert_exactly_once(0, LAST)
    events = await bench.query("select event_type from job_events order by id")
    assert [event.event_type for event in events] == ["SCHEDULED", "RUNNING", "COMPLETED"]


async def status_is(bench: Bench, job_id: int, wanted: str) -> bool:
    (row,) = await bench.query("select status from jobs_status where job_id = %s", job_id)
    return bool(row.status == wanted)
