"""A session with one metadata database: what exists, what runs, and how to start and stop it."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ampd_ray.client.job import Job
from ampd_ray.client.loop import LoopThread
from ampd_ray.client.tables import table_files, table_scan
from ampd_ray.config import Settings, load_settings
from ampd_ray.controller import datasets as registry
from ampd_ray.controller import service
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import Manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import NotFound
from ampd_ray.metadb import datasets, jobs, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.metadb.statuses import ACTIVE
from ampd_ray.metadb.workers import WorkerRow
from ampd_ray.providers.registry import ListedProvider, list_providers, write_provider
from ampd_ray.store.files import open_store

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

T = TypeVar("T")
REACH_WITHIN = timedelta(seconds=5)  # a person waits for it


def connect(config: str | Path | None = None) -> Client:
    """A session with the database and directories of a configuration (default: ``AMP_CONFIG``)."""
    path = config or os.environ.get("AMP_CONFIG")
    return Client(load_settings(Path(path) if path else None, os.environ))


class Client:
    """Use it as a context manager, or call ``close``. All calls block; all raise ``AmpdError``."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_close: Callable[[], None] | None = None,
        check: Callable[[], None] | None = None,
    ):
        self.settings = settings
        self.check = check or _nothing
        """Raises if what this session started for itself has died: asked by everything that waits."""
        self._on_close = on_close
        self._loop = LoopThread()
        self._db = Database(settings.metadata_db.dsn(), application_name="ampd-ray/client", pool_size=4)
        self._closed = False
        try:
            self.run(self._db.open(REACH_WITHIN))
        except BaseException:
            self._loop.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def db(self) -> Database:
        """The database, for calls through :meth:`run`."""
        return self._db

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the session's loop."""
        return self._loop.run(work)

    def close(self) -> None:
        """Close the connections, and the solo environment if this session started it."""
        if self._closed:
            return
        self._closed = True
        try:
            self.run(self._db.close())
            self._loop.close()
        finally:
            if self._on_close is not None:
                self._on_close()

    # -- providers and datasets -----------------------------------------------------------------------------------

    def providers(self) -> list[ListedProvider]:
        """The provider files, the unusable ones with their reason."""
        return list_providers(self.settings.providers_dir)

    def add_provider(self, name: str, *, replace: bool = False, **keys: Any) -> None:
        """Write a provider file (``spec/data.md`` 2.1); a different one of that name is only replaced on demand."""
        write_provider(self.settings.providers_dir, name, keys, replace=replace)

    def register_dataset(self, ref: DatasetRef, manifest: Manifest, version: str | None = None) -> str:
        """Store the manifest and let ``dev`` (and ``version``) point to it; its hash."""
        store = open_store(self.settings.manifests_dir)
        return self.run(registry.register_dataset(self._db, store, manifest, ref.namespace, ref.name, version))

    def datasets(self) -> list[datasets.DatasetRow]:
        """All datasets with their versions."""
        return self.run(self._with(datasets.list_datasets))

    def manifest(self, ref: DatasetRef) -> Manifest:
        """The manifest behind a reference; ``NotFound`` if there is none."""
        return self.run(registry.load_manifest(self._db, open_store(self.settings.manifests_dir), ref))

    def files(self, dataset: DatasetRef | str, table: str) -> list[str]:
        """The paths of a table's committed files in block order; what a reorg or a repair replaced is not among them.

        ``dataset`` is ``"namespace/name[@revision]"``. Raises ``NotFound`` for an unknown dataset or table.
        """
        return table_files(self, _ref(dataset), table)

    def scan(self, dataset: DatasetRef | str, table: str) -> Dataset:
        """The committed rows of a table as a ``pyarrow.dataset``: ``client.scan("_/mainnet", "logs").head(5)``."""
        return table_scan(self, _ref(dataset), table)

    # -- jobs and workers -----------------------------------------------------------------------------------------

    def deploy(self, descriptor: JobDescriptor, worker: str | None = None) -> Job:
        """Schedule a job; an identical active one is returned as it is.

        Raises ``JobConflict``, ``WorkerNotAvailable`` or ``SchedulerError``.
        """
        return Job(self, self.run(service.deploy(self._db, descriptor, worker)))

    def job(self, job_id: int) -> Job:
        """The handle of an existing job."""
        self.job_row(job_id)
        return Job(self, job_id)

    def job_row(self, job_id: int) -> JobRow:
        """The job's row; ``NotFound`` if there is none."""
        row = self.run(self._with(lambda conn: jobs.get(conn, job_id)))
        if row is None:
            raise NotFound(f"there is no job {job_id}; see `ampd jobs list`", job_id=job_id)
        return row

    def jobs(self, *, active_only: bool = False, limit: int = 1000) -> list[JobRow]:
        """The newest jobs first."""
        statuses = ACTIVE if active_only else None
        rows = self.run(self._with(lambda conn: jobs.list_jobs(conn, statuses=statuses)))
        return rows[::-1][:limit]

    def workers(self) -> list[WorkerRow]:
        """All workers that ever registered, by Node ID."""
        return self.run(self._with(workers.list_workers))

    async def _with(self, verb: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        async with self._db.connection() as conn:
            return await verb(conn)


def _nothing() -> None:
    """A session that started nothing has nothing to check."""


def _ref(dataset: DatasetRef | str) -> DatasetRef:
    return DatasetRef.parse(dataset) if isinstance(dataset, str) else dataset
