"""A whole job on a real database against the devnet, without Ray: what is committed, and what survives which fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.chain.segments import missing, resolve
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.manifest import TABLES, evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import ActorLost, Overlap
from ampd_ray.materialize.extract import Extractor
from ampd_ray.materialize.job import MaterializeJob
from ampd_ray.materialize.setup import Environment, JobSpec
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb import datasets, files, jobs, revisions, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.providers.evm_rpc import EvmRpcSource
from ampd_ray.providers.registry import ProviderConfig
from ampd_ray.store.files import LocalStore
from tests.fakes.devnet import Devnet
from tests.fakes.local_work import LocalExtractors, LocalWriters

NODE = "worker-1"


@dataclass
class Bench:
    """A node without Ray: everything real but the processes."""

    db: Database
    root: Path
    url: str
    incarnation: Any = field(default_factory=uuid4)
    poll_secs: float = 0.05
    flush_secs: float = 600.0
    options: WriterOptions = WriterOptions()

    def source(self, provider: str, network: str) -> EvmRpcSource:
        return EvmRpcSource(ProviderConfig(kind="evm-rpc", name=provider, network=network, url=self.url))

    def environment(self) -> Environment:
        return Environment(
            db=self.db,
            data=LocalStore(self.root / "data"),
            manifests=LocalStore(self.root / "manifests"),
            choose_provider=lambda network: "devnet",
            open_source=self.source,
            options=self.options,
            flush_secs=self.flush_secs,
            poll_secs=self.poll_secs,
            memory_bytes=64 << 20,
            lease_ttl_secs=4.0,
        )

    async def job(self, **fields: Any) -> tuple[MaterializeJob, LocalExtractors, LocalWriters]:
        """A job that is RUNNING and ours, ready to run."""
        manifest = evm_rpc_manifest("devnet", fields.pop("start_block", 0))
        LocalStore(self.root / "manifests").write(manifest.hash, manifest.canonical_bytes())
        descriptor = JobDescriptor.of(DatasetRef("_", "devnet"), manifest.hash, **fields)
        async with self.db.connection() as conn:
            await workers.register(conn, NODE, {"implementation": "ampd-ray"})
            await datasets.register_manifest(conn, manifest.hash, manifest.kind)
        job_id = await jobs.schedule(self.db, descriptor, NODE)
        async with self.db.connection() as conn:
            await jobs.transition(conn, job_id, JobStatus.RUNNING, NODE)
        extractors = LocalExtractors(Extractor(self.source))
        writers = LocalWriters(self.db, LocalStore(self.root / "data"))
        spec = JobSpec(job_id, NODE, self.incarnation, descriptor)
        return MaterializeJob(spec, self.environment(), extractors, writers), extractors, writers

    async def segments(self, spec: JobSpec) -> dict[str, list[Any]]:
        descriptor = spec.descriptor
        async with self.db.connection() as conn:
            found = await revisions.active_revisions(conn, "_", "devnet", descriptor.manifest_hash)
            return {table: list(await files.segments(conn, rev.location_id)) for table, rev in found.items()}

    async def rows(self, spec: JobSpec, table: str) -> pa.Table:
        """All rows of a table's canonical files, in order."""
        async with self.db.connection() as conn:
            revision = (await revisions.active_revisions(conn, "_", "devnet", spec.descriptor.manifest_hash))[table]
            chain = resolve(await files.segments(conn, revision.location_id))
            assert chain is not None
            cursor = await conn.execute("select id, file_name from file_metadata where location_id = %s", [
                revision.location_id
            ])  # fmt: skip
            names = {row.id: row.file_name for row in await cursor.fetchall()}
        directory = self.root / "data" / revision.path
        return pa.concat_tables(pq.read_table(directory / names[s.file_id]) for s in chain.canonical)


@pytest.fixture
async def bench(db: Database, tmp_path: Path, devnet: Devnet) -> AsyncIterator[Bench]:
    for name in ("data", "manifests"):
        (tmp_path / name).mkdir()
    yield Bench(db, tmp_path, devnet.url)


async def assert_exactly_once(bench: Bench, spec: JobSpec, span: Span) -> None:
    """Each block of ``span`` once in each table's live files, rows and all."""
    for table, segments in (await bench.segments(spec)).items():
        assert missing(segments, span) == [], table
        rows = await bench.rows(spec, table)
        assert rows.schema.equals(SCHEMAS[table])
        if table == "blocks":
            assert rows.column("block_num").to_pylist() == list(range(span.start, span.end + 1))


async def test_a_range_becomes_committed_files(bench: Bench) -> None:
    job, _, _ = await bench.job(end_block="150")
    assert await job.run() == JobOutcome(Outcome.COMPLETED)
    await assert_exactly_once(bench, job.spec, Span(0, 150))
    found = await bench.segments(job.spec)
    assert set(found) == set(TABLES)
    assert {len(segments) for segments in found.values()} == {1}
