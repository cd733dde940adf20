"""A session with one metadata database: what exists, what runs, and how to start and stop it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ampd_ray.client.job import Job
from ampd_ray.client.loop import LoopThread
from ampd_ray.client.session_calls import SessionCalls
from ampd_ray.config import Settings
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.names import DatasetRef

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset as ArrowDataset

    from ampd_ray.client.dataset import Dataset
    from ampd_ray.datasets.manifest import Manifest
    from ampd_ray.metadb.connection import Database
    from ampd_ray.metadb.datasets import DatasetRow
    from ampd_ray.metadb.jobs import JobRow
    from ampd_ray.metadb.workers import WorkerRow
    from ampd_ray.providers.registry import ListedProvider

T = TypeVar("T")


class Client:
    """A session; use it as a context manager, or call ``close``.

    All calls block, in a running event loop as well, and may come from any thread. All raise ``AmpdError``;
    ``SessionClosed`` after ``close``, and in a process that was forked off.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_close: Callable[[], None] | None = None,
        check: Callable[[], None] | None = None,
    ):
        self.settings = settings
        self.calls = SessionCalls(settings, check or _nothing)
        """The same as coroutines, for :meth:`run` and :meth:`awaited`."""
        self._on_close = on_close
        self._loop = LoopThread()
        try:
            self.run(self.calls.open())
        except BaseException:
            self._loop.close()
            raise

    def __repr__(self) -> str:
        return f"<Client postgresql://{self.db.name}, data in {self.settings.data_dir}{', closed' * self.closed}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def db(self) -> Database:
        """The database, for calls through :meth:`run`."""
        return self.calls.db

    @property
    def closed(self) -> bool:
        """True after ``close``, and in a process that was forked off."""
        return self._loop.closed

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the session's loop, and wait for it."""
        __tracebackhide__ = True
        return self._loop.run(work)

    def awaited(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Run a coroutine on the session's loop, for a caller on another; cancelled with its caller."""
        return self._loop.awaited(work)

    def close(self) -> None:
        """Close the connections, and leave the solo environment. What waits is told so.

        The session that started the environment waits for its end, unless another session or a job goes on there.
        """
        if self.closed:
            return
        try:
            self._loop.close(self.db.close)
        finally:
            if self._on_close is not None:
                self._on_close()

    # -- providers and datasets -----------------------------------------------------------------------------------

    def providers(self) -> list[ListedProvider]:
        """The provider files, the unusable ones with their reason."""
        from ampd_ray.providers.registry import list_providers

        return list_providers(self.settings.providers_dir)

    def add_provider(self, name: str, *, replace: bool = False, **keys: Any) -> None:
        """Write a provider file (``spec/data.md`` 2.1); a different one of that name is only replaced on demand."""
        from ampd_ray.providers.registry import write_provider

        write_provider(self.settings.providers_dir, name, keys, replace=replace)

    def register_dataset(self, ref: DatasetRef, manifest: Manifest, version: str | None = None) -> str:
        """Store the manifest and let ``dev`` (and ``version``) point to it; its hash."""
        return self.run(self.calls.register_dataset(ref, manifest, version))

    def datasets(self) -> list[DatasetRow]:
        """All datasets with their versions."""
        return self.run(self.calls.datasets())

    def manifest(self, ref: DatasetRef) -> Manifest:
        """The manifest behind a reference; ``NotFound`` if there is none."""
        return self.run(self.calls.manifest(ref))

    def dataset(self, ref: Dataset | DatasetRef | str) -> Dataset:
        """A dataset to read (``"namespace/name[@revision]"``); ``NotFound`` if there is none of that name."""
        from ampd_ray.client.dataset import Dataset

        return ref if isinstance(ref, Dataset) else Dataset(self, ref)

    def files(self, dataset: Dataset | DatasetRef | str, table: str) -> list[str]:
        """``client.dataset(dataset).files(table)``."""
        return self.dataset(dataset).files(table)

    def scan(self, dataset: Dataset | DatasetRef | str, table: str) -> ArrowDataset:
        """``client.dataset(dataset).scan(table)``."""
        return self.dataset(dataset).scan(table)

    # -- jobs and workers -----------------------------------------------------------------------------------------

    def deploy(self, descriptor: JobDescriptor, worker: str | None = None) -> Job:
        """Schedule a job; an identical active one is returned as it is.

        Raises ``JobConflict``, ``WorkerNotAvailable`` or ``SchedulerError``.
        """
        return Job(self, self.run(self.calls.deploy(descriptor, worker)))

    def job(self, job_id: int) -> Job:
        """The handle of an existing job; ``NotFound`` if there is none."""
        self.run(self.calls.job_row(job_id))
        return Job(self, job_id)

    def job_row(self, job_id: int) -> JobRow:
        """The job's row; ``NotFound`` if there is none."""
        return self.run(self.calls.job_row(job_id))

    def jobs(self, *, active_only: bool = False, limit: int = 1000) -> list[JobRow]:
        """The newest jobs first; in a notebook, a table."""
        return self.run(self.calls.jobs(active_only, limit))

    def workers(self) -> list[WorkerRow]:
        """All workers that ever registered, by Node ID; in a notebook, a table."""
        return self.run(self.calls.workers())


def _nothing() -> None:
    """A session that started nothing has nothing to check."""
