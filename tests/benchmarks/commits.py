"""What Postgres itself takes: segments of three files, announced and committed one after the other.

The files exist in the database only. The embedded Postgres is as durable as any: each commit waits for its disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID, uuid4

from ampd_ray.chain.ranges import BlockRange
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import TABLES, evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.materialize.encode import footer_metadata
from ampd_ray.materialize.types import Location
from ampd_ray.metadb import datasets, files, jobs, leases, schema, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.files import CommitRequest, Intent, NewFile
from ampd_ray.metadb.revisions import open_revision
from ampd_ray.metadb.statuses import JobStatus
from tests.benchmarks.usage import cpu_secs, of_environment

NODE: Final = "bench"
SEGMENT_BLOCKS: Final = 100
FOOTER: Final = bytes(4096)  # about as long as a real one


def measure(segments: int, committers: Sequence[int] = (1, 8)) -> dict[str, Any]:
    """So many jobs at a time commit so many segments each; the figures by their number."""
    with TemporaryDirectory(prefix="ampd-bench-") as root:
        postgres = EmbeddedPostgres(Path(root) / "metadb")
        try:
            url = postgres.start()
            return {str(many): asyncio.run(_commit(url, Path(root), many, segments)) for many in committers}
        finally:
            postgres.stop(patience=1.0)


async def _commit(url: str, root: Path, many: int, segments: int) -> dict[str, Any]:
    await schema.migrate(url)
    db = Database(url, pool_size=many, min_connections=many)
    await db.open()
    jobs_ = [await _Job.make(db, f"bench_{many}_{number}") for number in range(many)]
    await asyncio.gather(*(job.commit(0) for job in jobs_))
    server, began = sum(cpu_secs(of_environment(root)).values()), time.monotonic()
    client = time.process_time()
    took = [secs for each in await asyncio.gather(*(job.commit_all(segments) for job in jobs_)) for secs in each]
    wall, client = time.monotonic() - began, time.process_time() - client
    server = sum(cpu_secs(of_environment(root)).values()) - server
    await db.close()
    record = {
        "segments_per_s": round(len(took) / wall, 1),
        "postgres_cpu_ms": round(1000 * server / len(took), 2),
        "client_cpu_ms": round(1000 * client / len(took), 2),
        "p50_ms": round(1000 * median(took), 1),
    }
    print(f"{many} at a time: {record}", flush=True)
    return record


@dataclass(frozen=True)
class _Job:
    """One that runs and holds the leases of its tables."""

    db: Database
    id: int
    incarnation: UUID
    locations: list[Location]

    @classmethod
    async def make(cls, db: Database, name: str) -> _Job:
        """Of a dataset of its own."""
        manifest, incarnation = evm_rpc_manifest(name), uuid4()
        async with db.connection() as conn:
            await workers.register(conn, NODE, {})
            await datasets.register_manifest(conn, manifest.hash, manifest.kind)
        job_id = await jobs.schedule(db, JobDescriptor.of(DatasetRef("_", name), manifest.hash), NODE)
        opened = {table: await open_revision(db, "_", name, manifest.hash, table) for table in TABLES}
        async with db.connection() as conn:
            assert await jobs.transition(conn, job_id, JobStatus.RUNNING, NODE)
            ids = [revision.location_id for revision in opened.values()]
            epochs = await leases.acquire(conn, ids, job_id, NODE, incarnation)
        locations = [Location(table, r.location_id, r.path, epochs[r.location_id]) for table, r in opened.items()]
        return cls(db, job_id, incarnation, locations)

    async def commit_all(self, segments: int) -> list[float]:
        """One after the other; the seconds of each."""
        return [await self.commit(number) for number in range(1, segments + 1)]

    async def commit(self, number: int) -> float:
        """What a writer does about a segment; how long it took."""
        began = time.monotonic()
        name = f"{number:09}.parquet"
        intents = [Intent(location.location_id, name, location.epoch) for location in self.locations]
        created_ns = await files.announce(self.db, intents, newest_ns=1)
        new = tuple(_file(location, name, number, created_ns) for location in self.locations)
        await files.commit(self.db, CommitRequest(self.id, NODE, self.incarnation, new))
        return time.monotonic() - began


def _file(at: Location, name: str, number: int, created_ns: int) -> NewFile:
    first, last = number * SEGMENT_BLOCKS, (number + 1) * SEGMENT_BLOCKS - 1
    range_ = BlockRange("bench", first, last, _hash(last), _hash(first - 1), last)
    metadata = footer_metadata(
        table=at.table, filename=name, created_ns=created_ns, range_=range_, parents=[], generation=0
    )
    return NewFile(
        table=at.table,
        location_id=at.location_id,
        epoch=at.epoch,
        known=frozenset(),
        file_name=name,
        directory_url="file:///data/",
        range=range_,
        created_ns=created_ns,
        metadata_json=metadata["nozzle_metadata"],
        footer=FOOTER,
        size=1,
        e_tag=None,
        version=None,
        sha256=bytes(32),
        row_count=1,
        verified="hash",
    )


def _hash(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()
