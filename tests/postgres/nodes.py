"""What tests of nodes share: a running coordinator with fake jobs, and ways to look at and disturb its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ampd_ray.config import Settings
from ampd_ray.config.keys import AmpdRay
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.metadb import jobs
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.node.coordinator import Coordinator
from tests.fakes.jobs import FakeJob, FakeJobs
from tests.servers import owner_of

NODE = "worker-1"


async def until(holds: Callable[[], Any], within: float = 20.0) -> None:
    """Wait until ``holds`` (plain or async) is true."""
    async with asyncio.timeout(within):
        while True:
            result = holds()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return
            await asyncio.sleep(0.02)


def settings_in(directory: Path, **ours: Any) -> Settings:
    """A valid configuration; ``ours`` are keys of ``[ampd_ray]``."""
    folders = [directory / key for key in ("data_dir", "providers_dir", "manifests_dir")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    data, providers, manifests = map(str, folders)
    short = {"node_lock_timeout_secs": 0.5, "drain_timeout_secs": 5.0, "reconcile_interval_secs": 60.0}
    keys = AmpdRay(failover_group="here", **{**short, **ours})
    return Settings(data_dir=data, providers_dir=providers, manifests_dir=manifests, ampd_ray=keys)


@dataclass
class Node:
    """A coordinator that runs as a task of the test's loop."""

    coordinator: Coordinator
    jobs: FakeJobs = field(default_factory=FakeJobs)
    task: asyncio.Task[int] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.coordinator.run())

    async def up(self) -> None:
        """Wait until the node beats, listens and has looked at its jobs."""
        counters = self.coordinator.counters
        await until(lambda: self.ended or (counters.beats and counters.listens and counters.reconciles))
        if self.ended:
            await self.code()

    @property
    def ended(self) -> bool:
        return self.task is not None and self.task.done()

    async def code(self) -> int:
        """The exit code, once it has ended."""
        assert self.task is not None
        return await asyncio.wait_for(asyncio.shield(self.task), 20)

    async def one_job(self) -> FakeJob:
        """The one job that runs, once it does."""
        await until(lambda: len(self.jobs.running()) == 1)
        return self.jobs.running()[0]


@asynccontextmanager
async def node(pg_url: str, directory: Path, node_id: str = NODE, **ours: Any) -> AsyncIterator[Node]:
    """A node that is up, ended at the end of the block."""
    async with unstarted(pg_url, directory, node_id, **ours) as started:
        started.start()
        await started.up()
        yield started


@asynccontextmanager
async def unstarted(pg_url: str, directory: Path, node_id: str = NODE, **ours: Any) -> AsyncIterator[Node]:
    """A node that a test starts itself."""
    made = FakeJobs()
    coordinator = Coordinator(settings_in(directory, **ours), node_id, pg_url, made, {"version": "0"})
    running = Node(coordinator, made)
    try:
        yield running
    finally:
        if running.task is not None and not running.task.done():
            coordinator.ask_drain()
            coordinator.ask_drain()
            await asyncio.gather(running.task, return_exceptions=True)


def descriptor(name: str = "eth", end_block: str | None = None) -> JobDescriptor:
    return JobDescriptor(
        dataset_namespace="_", dataset_name=name, manifest_hash=name[:1].encode().hex() * 32, end_block=end_block
    )


async def execute(db: Database, statement: str, *args: Any) -> list[Any]:
    async with owner_of(db) as conn:
        cursor = await conn.execute(statement.encode(), args)
        return await cursor.fetchall() if cursor.description else []


async def job(db: Database, job_id: int) -> JobRow:
    async with db.connection() as conn:
        found = await jobs.get(conn, job_id)
    assert found is not None
    return found


async def status(db: Database, job_id: int) -> JobStatus:
    return (await job(db, job_id)).status


async def history(db: Database, job_id: int) -> list[str]:
    async with db.connection() as conn:
        return [event.event_type for event in await jobs.events(conn, job_id)]


async def set_status(db: Database, job_id: int, text: str, node_id: str = NODE) -> None:
    """Change a job's row behind everybody's back, as an Amp controller may."""
    await execute(db, "update jobs_status set status = %s, node_id = %s where job_id = %s", text, node_id, job_id)


async def cut_sessions(db: Database, pattern: str = f"ampd-ray/{NODE}/%") -> int:
    """Terminate the server's side of a node's sessions, as an operator or a failing server would."""
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like %s"
    return len(await execute(db, cut, pattern))
