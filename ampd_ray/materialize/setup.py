"""Open a job: from its descriptor to leases on its revisions, each step with its error code.

Every step is idempotent, so a run that died in the middle is simply opened again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from ampd_ray.chain.segments import Segment
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import TABLES, Manifest, parse_manifest, table_differences
from ampd_ray.errors import AmpdError, Handling, InvalidManifest, JobFailed, NotFound, ObjectMissing
from ampd_ray.materialize.types import Location, WriterOptions
from ampd_ray.metadb import datasets, files, leases, revisions
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import Store

logger = logging.getLogger(__name__)
T = TypeVar("T")

# A registered object that is missing is looked for again after this pause before the job is given up.
SECOND_LOOK_SECS = 10.0
PATIENCE = (0.2, 0.5, 1.0, 2.0, 5.0)


class Head(Protocol):
    """The newest block, or the newest final one."""

    @property
    def number(self) -> int:
        """Its number."""

    @property
    def hash(self) -> bytes:
        """Its hash, 32 bytes."""


class HeadSource(Protocol):
    """A provider as the coordinator uses it: it asks for heads only."""

    async def start(self) -> None:
        """Open it and compare its chain id."""

    async def head(self, tag: Literal["latest", "finalized"]) -> Head | None:
        """The block behind ``tag``; raises ``ProviderError``."""

    async def close(self) -> None:
        """Close its connections."""


@dataclass(frozen=True)
class JobSpec:
    """Which job this is, and who runs it."""

    job_id: int
    node_id: str
    incarnation: UUID
    descriptor: JobDescriptor


@dataclass(frozen=True)
class Environment:
    """What a job needs of its node. ``choose_provider`` maps a network to the name of a usable provider."""

    db: Database
    data: Store
    manifests: Store
    choose_provider: Callable[[str], str]
    open_source: Callable[[str, str], HeadSource]
    options: WriterOptions
    flush_secs: float
    poll_secs: float
    memory_bytes: int
    lease_ttl_secs: float


@dataclass(frozen=True)
class Opened:
    """A job that is ready to plan."""

    manifest: Manifest
    provider: str
    source: HeadSource
    locations: tuple[Location, ...]


@asynccontextmanager
async def step(code: str) -> AsyncIterator[None]:
    """Name the step in which an error happened (``spec/metadata-db.md`` 5.7)."""
    try:
        yield
    except JobFailed:
        raise
    except AmpdError as error:
        if error.handling is Handling.FENCED:
            raise
        raise JobFailed(
            str(error), step=code, retryable=error.retryable, cause=error.code, error_class=str(error.handling),
            **error.details,
        ) from error  # fmt: skip


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Wait out transient errors, for some nine seconds in all."""
    for pause in PATIENCE:
        try:
            return await call()
        except AmpdError as error:
            if error.handling is not Handling.TRANSIENT:
                raise
            logger.warning("%s; trying again in %.1f s", error, pause)
            await asyncio.sleep(pause)
    return await call()


async def open_job(spec: JobSpec, env: Environment) -> Opened:
    """All of steps 3 and 4 of the architecture: descriptor to leases."""
    async with step("GET_DATASET"):
        manifest = await patiently(lambda: load_manifest(env, spec.descriptor.manifest_hash))
    async with step("CREATE_BLOCK_STREAM_CLIENT"):
        provider = await asyncio.to_thread(env.choose_provider, manifest.network)
        source = env.open_source(provider, manifest.network)
        try:
            await source.start()
        except BaseException:
            await source.close()
            raise
    try:
        locations = await _open_locations(spec, env)
        async with step("CONSISTENCY_CHECK"):
            await _check_objects(env, locations)
    except BaseException:
        await source.close()
        raise
    return Opened(manifest, provider, source, locations)


async def load_manifest(env: Environment, manifest_hash: str) -> Manifest:
    """The manifest that ``manifest_hash`` names; ``InvalidManifest`` if it is absent or not what it says."""
    register = "register the dataset again: ampd datasets register"
    try:
        async with env.db.connection() as conn:
            row = await datasets.manifest(conn, manifest_hash)
        raw = await asyncio.to_thread(env.manifests.read, row.path)
    except NotFound as error:
        raise InvalidManifest(f"manifest {manifest_hash} is not in this database; {register}") from error
    except ObjectMissing as error:
        raise InvalidManifest(f"manifest {manifest_hash} is not in manifests_dir; restore it, or {register}") from error
    manifest = parse_manifest(raw)
    if manifest.hash != manifest_hash:
        raise InvalidManifest(f"the object of manifest {manifest_hash} was changed: it is {manifest.hash} now")
    for difference in table_differences(manifest):
        logger.warning(
            "a manifest differs from its kind's tables, which are used",
            extra={"hash": manifest_hash, "difference": difference},
        )
    return manifest


async def _open_locations(spec: JobSpec, env: Environment) -> tuple[Location, ...]:
    """Find or create each table's active revision, take the leases, become the writer."""
    descriptor = spec.descriptor
    async with step("GET_ACTIVE_PHYSICAL_TABLE"):
        opened = {
            table: await patiently(
                lambda table=table: revisions.open_revision(  # type: ignore[misc]
                    env.db, descriptor.dataset_namespace, descriptor.dataset_name, descriptor.manifest_hash, table
                )
            )
            for table in descriptor.tables or TABLES
        }
    ids = sorted(revision.location_id for revision in opened.values())
    async with step("LOCK_REVISIONS_FOR_WRITER"):
        async with env.db.transaction() as conn:
            epochs = await leases.acquire(
                conn, ids, spec.job_id, spec.node_id, spec.incarnation, timedelta(seconds=env.lease_ttl_secs)
            )  # fmt: skip
            await revisions.set_writer(conn, ids, spec.job_id)
        async with env.db.transaction() as conn:
            await files.sync_segments(conn, ids)
    locations = tuple(
        Location(table, revision.location_id, revision.path, epochs[revision.location_id])
        for table, revision in opened.items()
    )
    for location in locations:
        await asyncio.to_thread(env.data.clear_staging, location.location_id, location.epoch)
    return locations


async def _check_objects(env: Environment, locations: Sequence[Location]) -> None:
    """Every registered object must exist; one that is missing twice is fatal (``spec/metadata-db.md`` 5.7)."""
    missing = await _missing_objects(env, locations)
    if missing:
        logger.warning("%d registered files are not in the store, the first is %s; looking again", *missing)
        await asyncio.sleep(SECOND_LOOK_SECS)
        missing = await _missing_objects(env, locations)
    if missing:
        raise ObjectMissing(
            f"{missing[0]} registered files are not in the data directory, the first is {missing[1]}. Restore them, "
            "or deploy the dataset anew in an empty revision."
        )


async def _missing_objects(env: Environment, locations: Sequence[Location]) -> tuple[int, str] | None:
    """How many registered objects the store lacks, and the first; None if it has all."""
    lacking: list[str] = []
    for location in locations:
        async with env.db.connection() as conn:
            names = await files.file_names(conn, location.location_id)
        paths = [f"{location.path}/{name}" for name in names]
        lacking += await asyncio.to_thread(lambda paths=paths: [p for p in paths if not env.data.exists(p)])  # type: ignore[misc]
    return (len(lacking), lacking[0]) if lacking else None


async def load_segments(env: Environment, locations: Sequence[Location]) -> dict[str, list[Segment]]:
    """The registered segments of each table."""
    async with env.db.connection() as conn:
        return {location.table: list(await files.segments(conn, location.location_id)) for location in locations}
