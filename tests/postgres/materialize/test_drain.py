"""A node that drains while a commit can not be made: it ends in time, and leaves its job to a peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import ActorLost, AmpdError, StoreFull
from ampd_ray.materialize.job import MaterializeJob
from ampd_ray.materialize.leaving import Leave
from ampd_ray.materialize.setup import JobSpec
from ampd_ray.materialize.types import Extract, JobOutcome, Outcome, Partition, WriterReport
from ampd_ray.metadb.connection import Database, Limits
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.node.coordinator import Coordinator
from tests.fakes.bench import NODE, Bench, until
from tests.fakes.local_work import LocalWriters, never
from tests.fakes.postgres_proxy import PostgresProxy, proxied
from tests.postgres.nodes import settings_in

DRAIN_SECS = 6.0


@dataclass
class Remote:
    """A partition at a writer of another process: calls go on there when nobody waits for them any more."""

    inner: Any
    calls: set[asyncio.Task[Any]] = field(default_factory=set)
    flushing: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, rows: Extract) -> WriterReport:
        report: WriterReport = await self._call(self.inner.append(rows))
        return report

    async def skip(self, span: Span) -> WriterReport:
        report: WriterReport = await self._call(self.inner.skip(span))
        return report

    async def flush(self, reason: str) -> WriterReport:
        self.flushing.set()
        report: WriterReport = await self._call(self.inner.flush(reason))
        return report

    async def discard(self) -> None:
        await self._call(self.inner.discard())

    async def leaves(self) -> Leave:
        return await never()

    async def _call(self, work: Any) -> Any:
        call = asyncio.create_task(work)
        self.calls.add(call)
        return await asyncio.shield(call)


class RemoteWriters:
    """The port ``Writers``, as actors have it."""

    def __init__(self, inner: LocalWriters) -> None:
        self.opened: list[Remote] = []
        self._inner = inner

    async def open(self, partition: Partition) -> Remote:
        self.opened.append(Remote(await self._inner.open(partition)))
        return self.opened[-1]

    def done(self) -> list[asyncio.Task[Any]]:
        """The calls that are over."""
        return [call for each in self.opened for call in each.calls if call.done()]

    async def end(self) -> None:
        """As the processes of a node end with it."""
        calls = [call for each in self.opened for call in each.calls]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


@dataclass
class DrainingNode:
    """A node whose only job has an open file that is complete as far as it goes."""

    spec: JobSpec  # of a peer that takes the job
    coordinator: Coordinator
    writers: RemoteWriters
    task: asyncio.Task[int]

    async def drain(self) -> tuple[int, float]:
        """Exit code, and seconds."""
        clock = asyncio.get_running_loop().time
        started = clock()
        self.coordinator.ask_drain()
        return await asyncio.wait_for(self.task, 60), clock() - started


@asynccontextmanager
async def draining_node(bench: Bench, directory: Path, url: str) -> AsyncIterator[DrainingNode]:
    peer = (await bench.job(end_block="120")).spec
    db = Database(url)
    await db.open()
    writers = RemoteWriters(LocalWriters(db, bench.data))

    async def hold_the_third(span: Span) -> None:
        if span.start >= 32:
            await asyncio.Event().wait()

    def make_job(row: JobRow, descriptor: JobDescriptor) -> MaterializeJob:
        spec = JobSpec(row.job_id, NODE, coordinator.incarnation, descriptor)
        environment = replace(bench.environment(), db=coordinator.db, keeper=coordinator.keeper)
        extractors = bench.again(spec, environment).extractors
        extractors.before_extract = hold_the_third
        return MaterializeJob(spec, environment, extractors, writers)

    settings = settings_in(directory, drain_timeout_secs=DRAIN_SECS, takeover=False)
    coordinator = Coordinator(settings, NODE, url, make_job, {"version": "0"})
    node = DrainingNode(peer, coordinator, writers, asyncio.create_task(coordinator.run()))
    try:
        await until(lambda: len(writers.done()) == 2)
        yield node
    finally:
        coordinator.ask_drain()
        coordinator.ask_drain()
        await asyncio.gather(node.task, return_exceptions=True)
        await writers.end()
        await db.close()


async def assert_left_to_a_peer(bench: Bench) -> None:
    """RUNNING; files of all tables or of none, and here of none."""
    (row,) = await bench.query("select status from jobs_status")
    assert row.status == JobStatus.RUNNING
    assert await bench.query("select 1 from file_metadata") == []
    assert await bench.query("select 1 from ampd_ray.segment") == []


async def test_a_drain_commits_what_is_complete(bench: Bench, tmp_path: Path, pg_url: str) -> None:
    async with draining_node(bench, tmp_path, pg_url) as node:
        code, secs = await node.drain()
    assert (code, await bench.spans()) == (0, [(0, 31)])
    assert secs < DRAIN_SECS


async def test_a_drain_drops_a_commit_that_is_held_and_ends_in_time(bench: Bench, tmp_path: Path, pg_url: str) -> None:
    held = Limits(idle=timedelta(minutes=1))
    async with draining_node(bench, tmp_path, pg_url) as node, bench.db.transaction(held) as other:
        await other.execute("select * from jobs_status for update")
        code, secs = await node.drain()
        assert node.writers.opened[0].flushing.is_set()
        assert code == 1  # something was extracted for nothing
        assert secs <= DRAIN_SECS
        await node.writers.end()
    await assert_left_to_a_peer(bench)
    assert await bench.query("select 1 from ampd_ray.node_lease where draining and expires_at <= now()")
    assert await bench.again(node.spec)() == JobOutcome(Outcome.COMPLETED)
    await bench.assert_exactly_once(0, 120)


@pytest.mark.parametrize("error", [StoreFull("the disk is full"), ActorLost("the writer died")])
async def test_a_drain_whose_commit_fails_was_cut_short(
    bench: Bench, tmp_path: Path, pg_url: str, monkeypatch: pytest.MonkeyPatch, error: AmpdError
) -> None:
    async def fail(reason: str) -> WriterReport:
        raise error

    async with draining_node(bench, tmp_path, pg_url) as node:
        monkeypatch.setattr(node.writers.opened[0], "flush", fail)
        code, secs = await node.drain()
    assert (code, await bench.spans()) == (1, [])
    assert secs < DRAIN_SECS


@pytest.mark.parametrize("how", ["silent", "away"])
async def test_a_drain_without_a_database_ends_in_time(bench: Bench, tmp_path: Path, pg_url: str, how: str) -> None:
    async with proxied(pg_url) as (proxy, url), draining_node(bench, tmp_path, url) as node:
        hit = await lose(proxy, how)
        assert hit > 2
        code, secs = await node.drain()
        assert node.writers.opened[0].flushing.is_set()
        assert code == 1  # something was extracted for nothing
        assert secs <= DRAIN_SECS
    await assert_left_to_a_peer(bench)


async def lose(proxy: PostgresProxy, how: str) -> int:
    """Take the database away; how many sessions felt it."""

    async def refuse() -> Any:
        raise OSError("refused")

    proxy.connect = refuse
    return proxy.go_silent() if how == "silent" else await proxy.cut()
