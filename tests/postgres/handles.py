"""Jobs of a session without a worker: the test does to them what a node would."""

from __future__ import annotations

from typing import Any

import ampd_ray as amp
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb import jobs, revisions, workers
from ampd_ray.metadb.jobs import JobStatus
from ampd_ray.metadb.progress import JobProgress, report

NODE = "one"
REF = DatasetRef("_", "devnet")
MANIFEST = evm_rpc_manifest("devnet")


def register_worker(client: amp.Client) -> None:
    """A worker that beats once, so that jobs are scheduled."""

    async def register() -> None:
        async with client.db.connection() as conn:
            await workers.register(conn, NODE, {})

    client.run(register())


def cover(client: amp.Client, table: str, start: int, end: int) -> None:
    """Commit a file that has counted rows, and is never read."""
    revision = client.run(revisions.open_revision(client.db, "_", "devnet", MANIFEST.hash, table))

    async def insert() -> None:
        async with client.db.connection() as conn:
            await conn.execute(
                "with file as (insert into file_metadata (location_id, file_name, metadata, url, object_size) "
                "values (%(location)s, %(name)s, '{}', 'file:///x', 10) returning id) "
                "insert into ampd_ray.segment "
                "(file_id, location_id, network, blocks, start_parent, end_hash, canonical, row_count) "
                "select id, %(location)s, 'devnet', int8range(%(start)s, %(end)s, '[]'), '', '', true, 7 from file",
                {"location": revision.location_id, "name": f"{start}.parquet", "start": start, "end": end},
            )

    client.run(insert())


def say(client: amp.Client, job: amp.Job, **facts: Any) -> None:
    """As the job's node does."""

    async def said() -> None:
        async with client.db.connection() as conn:
            await report(conn, job.id, NODE, JobProgress("extracting", **facts))

    client.run(said())


def move(client: amp.Client, job: amp.Job, *statuses: JobStatus, detail: dict[str, Any] | None = None) -> None:
    async def moved() -> None:
        async with client.db.connection() as conn:
            for status in statuses:
                assert await jobs.transition(conn, job.id, status, NODE, detail)

    client.run(moved())
