"""A node without Ray: everything real but the processes. Here a job runs from its rows in Postgres to its files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from ampd_ray.chain.ranges import Span
from ampd_ray.chain.segments import Segment, missing, resolve
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.manifest import TABLES, Manifest, evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.materialize.extract import Extractor
from ampd_ray.materialize.job import MaterializeJob
from ampd_ray.materialize.setup import Environment, JobSpec
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb import datasets, files, jobs, revisions, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.providers.evm_rpc import EvmRpcSource, Timing
from ampd_ray.store.files import LocalStore, Store
from tests.fakes.devnet import Devnet
from tests.fakes.leases import UnkeptLeases
from tests.fakes.local_work import LocalExtractors, LocalWriters
from tests.fakes.providers import provider
from tests.servers import owner_of

NODE = "worker-1"


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)


@dataclass
class Run:
    """One run of a job, with the fakes that it works with."""

    job: MaterializeJob
    extractors: LocalExtractors
    writers: LocalWriters

    @property
    def spec(self) -> JobSpec:
        return self.job.spec

    @property
    def id(self) -> int:
        return self.job.spec.job_id

    async def __call__(self) -> JobOutcome:
        return await self.job.run()


@dataclass
class Bench:
    """Makes jobs of one dataset, ``_/devnet``. ``settings`` are those of ``Environment``, for the jobs made next."""

    db: Database
    root: Path
    devnet: Devnet
    manifest: Manifest = field(default_factory=lambda: evm_rpc_manifest("devnet"))
    incarnation: UUID = field(default_factory=uuid4)
    options: WriterOptions = field(default_factory=WriterOptions)
    settings: dict[str, Any] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)  # of the providers by name, in order; none: the devnet is one
    chain_id: int | None = None  # that the provider must have
    _extractors: list[Extractor] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("data", "manifests"):
            (self.root / name).mkdir()
        self.data: Store = LocalStore(self.root / "data")
        self.manifests: Store = LocalStore(self.root / "manifests")

    async def close(self) -> None:
        for extractor in self._extractors:
            await extractor.close()

    def source(self, name: str, network: str) -> EvmRpcSource:
        return EvmRpcSource(
            provider(self.urls.get(name, self.devnet.url), name=name, network=network),
            expected_chain_id=self.chain_id,
            timing=Timing(sleep=_at_once),
        )

    def providers(self, network: str, wanted: str | None) -> tuple[str, ...]:
        return (wanted,) if wanted else tuple(self.urls) or ("devnet",)

    def environment(self) -> Environment:
        settings: dict[str, Any] = {
            "keeper": UnkeptLeases(),
            "choose_providers": self.providers,
            "open_source": self.source,
            "flush_secs": 600.0,
            "poll_secs": 0.02,
            "memory_bytes": 64 << 20,
            "second_look_secs": 0.05,
        } | self.settings
        return Environment(
            db=self.db, data=self.data, manifests=self.manifests, options=self.options, lease_ttl_secs=4.0, **settings
        )

    # -- jobs -----------------------------------------------------------------------------------------------------

    async def job(self, **fields: Any) -> Run:
        """Register the dataset, deploy it as ``fields`` say, and make the job that is RUNNING now."""
        self.manifests.write(self.manifest.hash, self.manifest.canonical_bytes())
        descriptor = JobDescriptor.of(DatasetRef("_", "devnet"), self.manifest.hash, **fields)
        async with self.db.connection() as conn:
            await workers.register(conn, NODE, {"implementation": "ampd-ray"})
            await datasets.register_manifest(conn, self.manifest.hash, self.manifest.kind)
        job_id = await jobs.schedule(self.db, descriptor, NODE)
        await self.move(job_id, JobStatus.RUNNING)
        return self.again(JobSpec(job_id, NODE, self.incarnation, descriptor))

    def again(self, spec: JobSpec, environment: Environment | None = None) -> Run:
        """Another run of a job, as after a restart of its node; in another environment, as on another node."""
        extractor = Extractor(self.source)
        self._extractors.append(extractor)
        extractors, writers = LocalExtractors(extractor), LocalWriters(self.db, self.data)
        environment = environment or self.environment()
        return Run(MaterializeJob(spec, environment, extractors, writers), extractors, writers)

    async def complete(self, **fields: Any) -> Run:
        """Run a job to its end and settle it, so that it can be deployed again."""
        run = await self.job(**fields)
        assert await run() == JobOutcome(Outcome.COMPLETED)
        await self.move(run.id, JobStatus.COMPLETED)
        return run

    async def move(self, job_id: int, status: JobStatus) -> None:
        async with self.db.connection() as conn:
            assert await jobs.transition(conn, job_id, status, NODE)

    # -- what came of it ------------------------------------------------------------------------------------------

    async def query(self, statement: str, *values: Any) -> list[Any]:
        async with self.db.connection() as conn:
            rows: list[Any] = await (await conn.execute(statement.encode(), values)).fetchall()
            return rows

    async def execute(self, statement: str, *values: Any) -> int:
        async with owner_of(self.db) as conn:
            return int((await conn.execute(statement.encode(), values)).rowcount)

    async def revisions(self) -> dict[str, revisions.Revision]:
        async with self.db.connection() as conn:
            return await revisions.active_revisions(conn, "_", "devnet", self.manifest.hash)

    async def segments(self, table: str = "blocks") -> list[Segment]:
        """The registered segments of a table, in order of their rows."""
        found = await self.revisions()
        if table not in found:
            return []
        async with self.db.connection() as conn:
            return list(await files.segments(conn, found[table].location_id))

    async def spans(self, table: str = "blocks") -> list[tuple[int, int]]:
        return sorted((s.range.start, s.range.end) for s in await self.segments(table))

    async def canonical(self, table: str = "blocks") -> list[Segment]:
        chain = resolve(await self.segments(table))
        return list(chain.canonical) if chain else []

    async def paths(self, table: str) -> dict[int, Path]:
        """The file of each row of ``file_metadata``."""
        revision = (await self.revisions())[table]
        rows = await self.query("select id, file_name from file_metadata where location_id = %s", revision.location_id)
        return {row.id: self.root / "data" / revision.path / row.file_name for row in rows}

    async def rows(self, table: str) -> pa.Table:
        """All rows of a table's canonical files, in order."""
        paths = await self.paths(table)
        return pa.concat_tables(pq.read_table(paths[s.file_id]) for s in await self.canonical(table))

    def staged(self) -> list[Path]:
        """Unfinished files."""
        return [path for path in (self.root / "data" / ".ampd-ray-staging").rglob("*") if path.is_file()]

    async def objects(self) -> set[Path]:
        """All files within revisions."""
        found = (await self.revisions()).values()
        return {path for revision in found for path in (self.root / "data" / revision.path).glob("*")}

    async def assert_exactly_once(self, first: int, last: int, tables: tuple[str, ...] = TABLES) -> None:
        """Each block of the range once in each table's live files, rows and all, as the devnet has them."""
        wanted = Span(first, last)
        chain = [self.devnet.chain.block(number) for number in range(first, last + 1)]
        hashes = {block.hash for block in chain if block}
        for table in tables:
            assert missing(await self.segments(table), wanted) == [], table
            rows = await self.rows(table)
            assert rows.schema.equals(SCHEMAS[table], check_metadata=True), table
            column = "hash" if table == "blocks" else "block_hash"
            assert set(rows.column(column).to_pylist()) <= hashes, table
            numbers = rows.column("block_num").to_pylist()
            assert numbers == sorted(numbers), table
        if "blocks" in tables:
            assert (await self.rows("blocks")).column("hash").to_pylist() == [block.hash for block in chain if block]
        if "transactions" in tables:
            found = (await self.rows("transactions")).column("tx_hash").to_pylist()
            assert found == [digest for block in chain if block for digest in block.hashes]
        assert self.staged() == []


def failure(outcome: JobOutcome) -> dict[str, Any]:
    """The facts of a run that failed, and whether it may be tried again."""
    assert outcome.outcome is Outcome.FAILED
    assert outcome.error is not None
    return outcome.error.details | {"retryable": outcome.error.retryable}


async def until(condition: Callable[[], Any], *, within: float = 20.0) -> None:
    """Wait until ``condition``, which may be a coroutine function, is true."""
    async with asyncio.timeout(within):
        while True:
            held = condition()
            if asyncio.iscoroutine(held):
                held = await held
            if held:
                return
            await asyncio.sleep(0.01)
