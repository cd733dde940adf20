"""What can be asked of a session's database, as coroutines for the session's loop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Final

from ampd_ray.client.displays.rows import Rows
from ampd_ray.client.listed import of_job, of_worker
from ampd_ray.config import Settings
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
from ampd_ray.store.files import Store, open_store

REACH_WITHIN: Final = timedelta(seconds=5)  # a person waits for it


class SessionCalls:
    """The calls of one session. ``check`` raises if what the session started for itself has died."""

    def __init__(self, settings: Settings, check: Callable[[], None]):
        self.settings = settings
        self.check = check
        self.db = Database(settings.metadata_db.dsn(), application_name="ampd-ray/client", pool_size=4)
        self._manifests: dict[DatasetRef, Manifest] = {}

    @cached_property
    def data(self) -> Store:
        """Where the files are. Raises ``ConfigError``."""
        return open_store(self.settings.data_dir)

    @cached_property
    def manifests(self) -> Store:
        """Where the manifests are. Raises ``ConfigError``."""
        return open_store(self.settings.manifests_dir)

    async def open(self) -> None:
        """Connect; raises what the database says."""
        await self.db.open(REACH_WITHIN)

    async def register_dataset(self, ref: DatasetRef, manifest: Manifest, version: str | None = None) -> str:
        """Store the manifest and let tags point to it; its hash."""
        return await registry.register_dataset(self.db, self.manifests, manifest, ref.namespace, ref.name, version)

    async def datasets(self) -> list[datasets.DatasetRow]:
        """All datasets with their versions."""
        async with self.db.connection() as conn:
            return await datasets.list_datasets(conn)

    async def manifest(self, ref: DatasetRef) -> Manifest:
        """The manifest behind a reference; ``NotFound`` if there is none. One that a hash names is read once."""
        if ref in self._manifests:
            return self._manifests[ref]
        manifest = await registry.load_manifest(self.db, self.manifests, ref)
        if ref.revision == manifest.hash:
            self._manifests[ref] = manifest
        return manifest

    async def deploy(self, descriptor: JobDescriptor, worker: str | None = None) -> int:
        """Schedule a job; its id."""
        return await service.deploy(self.db, descriptor, worker)

    async def job_row(self, job_id: int) -> JobRow:
        """The job's row; ``NotFound`` if there is none."""
        async with self.db.connection() as conn:
            row = await jobs.get(conn, job_id)
        if row is None:
            raise NotFound(f"there is no job {job_id}; see `ampd jobs list` or amp.jobs()", job_id=job_id)
        return row

    async def jobs(self, active_only: bool = False, limit: int = 1000) -> list[JobRow]:
        """The newest jobs first."""
        async with self.db.connection() as conn:
            rows = await jobs.list_jobs(conn, statuses=ACTIVE if active_only else None)
        return Rows(rows[::-1][:limit], of_job)

    async def workers(self) -> list[WorkerRow]:
        """All workers that ever registered, by Node ID."""
        async with self.db.connection() as conn:
            return Rows(await workers.list_workers(conn), of_worker)
