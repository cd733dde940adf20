"""``ampd_ray``'s functions for those who have an event loop: ``client = await amp.aio.local()``.

The current session is the same: ``amp.job(42)`` and ``await amp.aio.job(42)`` ask one database.
What is awaited runs on the session's own loop, so that any loop will do, and ends with the task that awaits it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ampd_ray.client import current
from ampd_ray.client.aio_dataset import AsyncDataset
from ampd_ray.client.backfills import begin
from ampd_ray.client.displays import live
from ampd_ray.client.job import Job
from ampd_ray.client.progress import Progress, Rates
from ampd_ray.client.request import BackfillRequest
from ampd_ray.client.session import Client
from ampd_ray.client.snapshot import Failure, failure_of
from ampd_ray.client.summary import Summary
from ampd_ray.client.work import Work
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import JobFailed
from ampd_ray.metadb.datasets import DatasetRow
from ampd_ray.metadb.jobs import JobEvent, JobRow
from ampd_ray.metadb.quarantine import Quarantined
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.metadb.workers import WorkerRow

if TYPE_CHECKING:
    from ampd_ray.client.plans import Plan

__all__ = [
    "AsyncClient",
    "AsyncDataset",
    "AsyncJob",
    "backfill",
    "connect",
    "dataset",
    "inspect",
    "job",
    "jobs",
    "local",
    "plan",
]

T = TypeVar("T")


class AsyncClient:
    """A session; use it with ``async with``, or await ``close``. ``sync`` is the same session for plain calls."""

    def __init__(self, client: Client):
        self.sync = client

    def __repr__(self) -> str:
        return f"<Async{repr(self.sync)[1:]}"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """As :meth:`Client.close`."""
        await asyncio.shield(asyncio.to_thread(self.sync.close))

    async def job(self, job_id: int) -> AsyncJob:
        """As :meth:`Client.job`."""
        await self.sync.awaited(self.sync.calls.job_row(job_id))
        return AsyncJob(Job(self.sync, job_id), self.sync)

    async def jobs(self, *, active_only: bool = False, limit: int = 1000) -> list[JobRow]:
        """As :meth:`Client.jobs`."""
        return await self.sync.awaited(self.sync.calls.jobs(active_only, limit))

    async def workers(self) -> list[WorkerRow]:
        """As :meth:`Client.workers`."""
        return await self.sync.awaited(self.sync.calls.workers())

    async def dataset(self, ref: DatasetRef | str) -> AsyncDataset:
        """As :meth:`Client.dataset`."""
        return AsyncDataset(await asyncio.to_thread(self.sync.dataset, ref))

    async def datasets(self) -> list[DatasetRow]:
        """As :meth:`Client.datasets`."""
        return await self.sync.awaited(self.sync.calls.datasets())


class AsyncJob:
    """One job, by its id; ``sync`` is the same handle for plain calls, on ``session``. Raises as :class:`Job` does."""

    def __init__(self, job: Job, session: Client):
        self.sync = job
        self.id = job.id
        self._calls = job.calls
        self._session = session

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id}>"

    def _ipython_display_(self) -> None:
        live.show(self.sync, self._session)

    async def work(self) -> Work:
        """Its dataset, network, span and tables."""
        return await self._ask(self._calls.work())

    async def dataset(self) -> AsyncDataset:
        """As :attr:`Job.dataset`."""
        return AsyncDataset(await asyncio.to_thread(lambda: self.sync.dataset))

    async def descriptor(self) -> JobDescriptor:
        """As :meth:`Job.descriptor`."""
        return await self._ask(self._calls.descriptor())

    async def row(self) -> JobRow:
        """As :meth:`Job.row`."""
        return await self._ask(self._calls.row())

    async def status(self) -> JobStatus:
        """As :meth:`Job.status`."""
        return (await self.row()).status

    async def progress(self) -> Progress:
        """As :meth:`Job.progress`."""
        return await self._ask(self._calls.progress())

    async def rates(self) -> Rates:
        """As :meth:`Job.rates`."""
        return await self._ask(self._calls.rates())

    async def summary(self) -> Summary:
        """As :meth:`Job.summary`."""
        return await self._ask(self._calls.summary())

    async def events(self) -> list[JobEvent]:
        """As :meth:`Job.events`."""
        return await self._ask(self._calls.events())

    async def failures(self) -> list[Failure]:
        """As :meth:`Job.failures`."""
        return await self._ask(self._calls.failures())

    async def failure(self) -> JobFailed | None:
        """As :meth:`Job.failure`."""
        return failure_of(await self.row())

    async def holes(self) -> list[Quarantined]:
        """As :meth:`Job.holes`."""
        return await self._ask(self._calls.holes())

    async def watch(self, every_secs: float = 1.0) -> AsyncIterator[Progress]:
        """Its progress now and again, the last when it has ended: ``async for now in job.watch():``."""
        watch = self._calls.watch(every_secs)
        while (now := await self._ask(watch.next())) is not None:
            yield now

    async def wait(self, timeout_secs: float | None = None, *, progress: bool = True) -> Summary:
        """As :meth:`Job.wait`. Cancelled, it ends at once, and leaves the job."""
        if progress and live.is_available():
            await asyncio.to_thread(live.show_once, self.sync, self._session)
        row = await self.outcome(timeout_secs)
        if live.is_shown(self.sync, self._session):
            await asyncio.to_thread(live.settle, self.sync, self._session)
        return await self._ask(self._calls.result(row))

    async def outcome(self, timeout_secs: float | None = None) -> JobRow:
        """As :meth:`Job.outcome`."""
        return await self._ask(self._calls.ended(timeout_secs))

    async def stop(self) -> None:
        """As :meth:`Job.stop`."""
        await self._ask(self._calls.stop())

    async def retry(self, worker: str | None = None, *, quarantined: bool = False) -> int:
        """As :meth:`Job.retry`."""
        return await self._ask(self._calls.retry(worker, quarantined))

    async def remove(self) -> None:
        """As :meth:`Job.remove`."""
        await self._ask(self._calls.remove())

    async def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._session.awaited(work)


async def connect(
    target: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    providers_dir: str | Path | None = None,
    manifests_dir: str | Path | None = None,
) -> AsyncClient:
    """As :func:`ampd_ray.connect`."""
    directories = {"data_dir": data_dir, "providers_dir": providers_dir, "manifests_dir": manifests_dir}
    return AsyncClient(await _made(partial(current.connect, target, **directories)))


async def local(amp_dir: str | Path = ".amp") -> AsyncClient:
    """As :func:`ampd_ray.local`."""
    return AsyncClient(await _made(partial(current.local, amp_dir)))


async def inspect(amp_dir: str | Path = ".amp") -> AsyncClient:
    """As :func:`ampd_ray.inspect`."""
    return AsyncClient(await _made(partial(current.inspect, amp_dir)))


async def backfill(  # noqa: PLR0913 - the options of a backfill, each by its name
    client: AsyncClient | None = None,
    *,
    rpc: str,
    blocks: str,
    network: str | None = None,
    tables: Sequence[str] | None = None,
    writers: int = 1,
    verify: bool | Literal["full"] = False,
    priority: int | None = None,
) -> AsyncJob:
    """As :func:`ampd_ray.backfill`. Cancelled, it stops no job, whether or not there is one by then."""
    chosen = None if tables is None else tuple(tables)
    request = BackfillRequest(rpc, blocks, network, chosen, writers, verify, priority)
    request.checked()
    session = client.sync if client else await asyncio.to_thread(current.working_session)
    return AsyncJob(await session.awaited(begin(session, request)), session)


async def plan(client: AsyncClient | None = None, **options: Any) -> Plan:
    """As :func:`ampd_ray.plan`, with the same options; ``on_progress`` is called in another thread."""
    from ampd_ray.client.plans import plan as planned  # what it samples with takes long to import

    return await asyncio.to_thread(partial(planned, client.sync if client else None, **options))


async def job(job_id: int) -> AsyncJob:
    """As :func:`ampd_ray.job`."""
    return await (await _session()).job(job_id)


async def dataset(ref: DatasetRef | str) -> AsyncDataset:
    """As :func:`ampd_ray.dataset`."""
    return await (await _session()).dataset(ref)


async def jobs(*, active_only: bool = False, limit: int = 1000) -> list[JobRow]:
    """As :func:`ampd_ray.jobs`."""
    return await (await _session()).jobs(active_only=active_only, limit=limit)


async def _session() -> AsyncClient:
    return AsyncClient(await asyncio.to_thread(current.session))


async def _made(make: Callable[[], Client]) -> Client:
    """A session made in a thread; one that nobody waits for any more is closed there."""
    unwanted = threading.Event()

    def made() -> Client:
        client = make()
        if unwanted.is_set():
            client.close()
        return client

    making = asyncio.ensure_future(asyncio.to_thread(made))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        unwanted.set()
        if making.done() and not making.cancelled() and making.exception() is None:
            await asyncio.to_thread(making.result().close)
        raise
