"""``amp.aio`` on a real database: the same answers, awaited, and cancelled at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import ampd_ray as amp
from ampd_ray.client.aio import AsyncClient, AsyncJob
from ampd_ray.client.job_calls import JobCalls
from ampd_ray.client.session_calls import SessionCalls
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.devnet import Devnet
from tests.postgres.handles import MANIFEST, REF, cover, move, register_worker, say


@pytest.fixture
async def client(pg_url: str, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    for name in ("data", "providers", "manifests"):
        (tmp_path / name).mkdir()
    async with await amp.aio.connect(
        pg_url, data_dir=tmp_path / "data", providers_dir=tmp_path / "providers", manifests_dir=tmp_path / "manifests"
    ) as client:
        register_worker(client.sync)
        yield client


@pytest.fixture
async def job(client: AsyncClient) -> AsyncJob:
    """A job for a hundred blocks that runs, and has done forty."""
    client.sync.register_dataset(REF, MANIFEST)
    cover(client.sync, "logs", 0, 39)
    job = client.sync.deploy(JobDescriptor.of(REF, MANIFEST.hash, end_block="99", tables=("logs",)))
    move(client.sync, job, JobStatus.RUNNING)
    return await amp.aio.job(job.id)


async def test_it_answers_as_plain_calls_do(client: AsyncClient, job: AsyncJob) -> None:
    assert await client.workers() == client.sync.workers()
    assert await client.datasets() == client.sync.datasets()
    assert await amp.aio.jobs() == client.sync.jobs() == amp.jobs()
    assert await job.progress() == job.sync.progress()
    assert await job.events() == job.sync.events()
    assert (await job.work()).span == job.sync.span
    assert (await job.dataset()).sync.ref == job.sync.dataset.ref
    assert await job.descriptor() == job.sync.descriptor()
    assert await job.holes() == job.sync.holes()
    assert await job.failures() == []
    assert await job.failure() is None
    with pytest.raises(amp.NotFound):
        await client.job(job.id + 1)


async def test_a_watch_goes_on_until_the_job_has_ended(client: AsyncClient, job: AsyncJob) -> None:
    seen = []
    async for now in job.watch(every_secs=0.01):
        seen.append((now.status, now.done))
        if len(seen) == 1:
            say(client.sync, job.sync, blocks_done=70, blocks_total=100)
        elif seen[-1] == (JobStatus.RUNNING, 70):
            move(client.sync, job.sync, JobStatus.COMPLETED)
    assert seen[0] == (JobStatus.RUNNING, 40)
    assert seen[-1] == (JobStatus.COMPLETED, 40)


async def test_a_wait_gives_the_summary_of_a_stopped_job(client: AsyncClient, job: AsyncJob) -> None:
    waiting = asyncio.create_task(job.wait(30))
    await job.stop()
    move(client.sync, job.sync, JobStatus.STOPPING, JobStatus.STOPPED)
    assert (await waiting).blocks == 40
    assert await job.retry() == 0
    assert await job.status() is JobStatus.SCHEDULED


async def test_a_wait_for_a_failed_job_raises(client: AsyncClient, job: AsyncJob) -> None:
    move(client.sync, job.sync, JobStatus.FATAL)
    with pytest.raises(amp.JobFailed):
        await job.wait()
    await job.remove()
    with pytest.raises(amp.NotFound):
        await job.status()


async def test_a_cancelled_wait_ends_at_once_asks_no_more_and_leaves_the_job(
    job: AsyncJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, stopped = threading.Event(), threading.Event()

    async def never_answers(calls: JobCalls) -> JobRow:
        looked.set()
        try:
            return await asyncio.Future()
        finally:
            stopped.set()

    with monkeypatch.context() as patch:
        patch.setattr(JobCalls, "row", never_answers)
        waiting = asyncio.create_task(job.wait())
        assert await asyncio.to_thread(looked.wait, 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.to_thread(stopped.wait, 10)
    assert await job.status() is JobStatus.RUNNING
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(job.wait(), 0.01)


async def test_a_backfill_gives_a_job_and_the_same_again_finds_it(client: AsyncClient, devnet: Devnet) -> None:
    first = await amp.aio.backfill(rpc=devnet.url, blocks="0:10")
    second = await amp.aio.backfill(client, rpc=devnet.url, blocks="0:10")
    assert first.id == second.id == amp.backfill(rpc=devnet.url, blocks="0:10").id
    assert (await first.work()).network == "devnet"
    with pytest.raises(amp.InvalidRange):
        await amp.aio.backfill(rpc=devnet.url, blocks="10:0")


async def test_a_cancelled_backfill_stops_no_job(
    client: AsyncClient, devnet: Devnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy, deployed = SessionCalls.deploy, threading.Event()

    async def deploy_and_hang(calls: SessionCalls, descriptor: JobDescriptor, worker: str | None = None) -> int:
        await deploy(calls, descriptor, worker)
        deployed.set()
        return await asyncio.Future()

    monkeypatch.setattr(SessionCalls, "deploy", deploy_and_hang)
    starting = asyncio.create_task(amp.aio.backfill(rpc=devnet.url, blocks="0:10"))
    assert await asyncio.to_thread(deployed.wait, 30)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    (row,) = await client.jobs()
    assert row.status is JobStatus.SCHEDULED


async def test_a_session_that_nobody_waits_for_any_more_is_closed(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    open_, close = SessionCalls.open, amp.Client.close

    async def slow(calls: SessionCalls) -> None:
        begun.set()
        await asyncio.to_thread(go_on.wait, 30)
        await open_(calls)

    def noted(client: amp.Client) -> None:
        close(client)
        closed.set()

    monkeypatch.setattr(SessionCalls, "open", slow)
    monkeypatch.setattr(amp.Client, "close", noted)
    opening = asyncio.create_task(amp.aio.connect(pg_url))
    assert await asyncio.to_thread(begun.wait, 30)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    go_on.set()
    assert await asyncio.to_thread(closed.wait, 30)
