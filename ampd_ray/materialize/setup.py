"""Open a job: from its descriptor to leases on its revisions, each step with its error code.

Every step is idempotent, so a run that died in the middle is simply opened again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import TABLES, Manifest, stored_manifest, table_differences
from ampd_ray.errors import InvalidDescriptor, InvalidManifest, NotFound, ObjectMissing, wrong_chain
from ampd_ray.materialize.heads import HeadSource
from ampd_ray.materialize.leases import JobLeases, Keeper
from ampd_ray.materialize.patience import patiently, step
from ampd_ray.materialize.types import Location, WriterOptions
from ampd_ray.metadb import datasets, files, networks, revisions
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.revisions import Revision
from ampd_ray.store.files import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobSpec:
    """Which job this is, and who runs it."""

    job_id: int
    node_id: str
    incarnation: UUID
    descriptor: JobDescriptor


@dataclass(frozen=True)
class Environment:
    """What a job needs of its node. ``choose_providers`` maps a network, and the provider that is wanted
    if there is one, to the names of the usable ones, the preferred one first; there is one at least.

    ``chain_of`` says which chain a network is; None: its providers do.

    ``quarantine``: a block that no provider delivers correctly is set aside; else it ends the job. ``wholly``: where a
    job verifies, a block that can only be verified in part ends it.

    ``unit_blocks``: the most blocks that a writer takes at a time; None: as many as make a good file size.
    A registered object that is missing is looked for again after ``second_look_secs`` before the job is given up.
    """

    db: Database
    data: Store
    manifests: Store
    keeper: Keeper
    choose_providers: Callable[[str, str | None], tuple[str, ...]]
    open_source: Callable[[str, str], HeadSource]
    options: WriterOptions
    flush_secs: float
    poll_secs: float
    memory_bytes: int | None
    lease_ttl_secs: float
    unit_blocks: int | None = None
    second_look_secs: float = 10.0
    sweep_every_secs: float = 30.0
    quarantine: bool = True
    wholly: bool = False
    chain_of: Callable[[str], int | None] = lambda network: None


@dataclass(frozen=True)
class Opened:
    """A job that is ready to plan. ``source`` is the first of the providers; all have to serve ``chain_id``."""

    manifest: Manifest
    providers: tuple[str, ...]
    source: HeadSource
    revisions: Mapping[str, Revision]
    locations: tuple[Location, ...]
    chain_id: int | None = None


async def open_job(spec: JobSpec, env: Environment, leases: JobLeases) -> Opened:
    """All of steps 3 and 4 of the architecture: descriptor to leases."""
    async with step("GET_DATASET"):
        manifest = await patiently(partial(load_manifest, env, spec.descriptor.manifest_hash))
    async with step("CREATE_BLOCK_STREAM_CLIENT"):
        providers = await asyncio.to_thread(env.choose_providers, manifest.network, spec.descriptor.provider)
        source = await asyncio.to_thread(env.open_source, providers[0], manifest.network)  # reads the provider's file
        try:
            await source.start()
            chain_id = await _chain_id(env, manifest.network, providers[0], source)
        except BaseException:
            await source.close()
            raise
    try:
        opened = await _open_revisions(spec, env)
        locations = await take_leases(env, leases, opened)
        async with step("CONSISTENCY_CHECK"):
            await _check_objects(env, locations)
    except BaseException:
        await source.close()
        raise
    return Opened(manifest, providers, source, opened, locations, chain_id)


async def _chain_id(env: Environment, network: str, provider: str, source: HeadSource) -> int | None:
    """The chain that the job's network is. Raises WrongChain for a provider of another one than was used before."""
    told, found = env.chain_of(network), source.chain
    if told is not None or found is None:
        return told
    expected = await patiently(partial(networks.record, env.db, network, found))
    if expected != found:
        raise wrong_chain(provider, network, found, expected)
    return expected


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
    try:
        manifest = stored_manifest(raw, manifest_hash)
    except InvalidManifest as error:
        raise InvalidManifest(f"manifest {manifest_hash} cannot be used: {error}; {register}") from error
    for difference in table_differences(manifest):
        logger.warning(
            "a manifest differs from its kind's tables, which are used",
            extra={"hash": manifest_hash, "difference": difference},
        )
    return manifest


async def _open_revisions(spec: JobSpec, env: Environment) -> dict[str, Revision]:
    """Find or create each table's active revision."""
    wanted = spec.descriptor
    dataset = (wanted.dataset_namespace, wanted.dataset_name, wanted.manifest_hash)
    opened = {}
    if unknown := sorted(set(wanted.tables or ()) - set(TABLES)):
        raise InvalidDescriptor(f"{wanted.dataset} has the tables {', '.join(TABLES)}; not {', '.join(unknown)}")
    async with step("GET_ACTIVE_PHYSICAL_TABLE"):
        for table in wanted.tables or TABLES:
            opened[table] = await patiently(partial(revisions.open_revision, env.db, *dataset, table))
    return opened


async def take_leases(env: Environment, leases: JobLeases, opened: Mapping[str, Revision]) -> tuple[Location, ...]:
    """Become the writer of these tables under a new epoch: what was begun under an older one can commit no more."""
    async with step("LOCK_REVISIONS_FOR_WRITER"):
        location_ids = [revision.location_id for revision in opened.values()]
        epochs = await leases.take(location_ids)
        await patiently(partial(_sync, env, location_ids))
    return tuple(
        Location(table, revision.location_id, revision.path, epochs[revision.location_id])
        for table, revision in opened.items()
    )


async def _sync(env: Environment, location_ids: Sequence[int]) -> None:
    async with env.db.transaction() as conn:
        await files.sync_segments(conn, location_ids)


async def _check_objects(env: Environment, locations: Sequence[Location]) -> None:
    """Every registered object must exist; one that is missing twice is fatal (``spec/metadata-db.md`` 5.7)."""
    missing = await patiently(partial(_missing_objects, env, locations))
    if missing:
        facts = {"missing": len(missing), "first": missing[0], "pause_secs": env.second_look_secs}
        logger.warning("registered files are not in the store; looking again", extra=facts)
        await asyncio.sleep(env.second_look_secs)
        missing = await patiently(partial(_missing_objects, env, locations))
    if missing:
        raise ObjectMissing(
            f"{len(missing)} registered files are not in the data directory, the first is {missing[0]}. Restore them, "
            "or delete their rows in file_metadata to have their blocks extracted again.",
            missing=len(missing),
            path=missing[0],
        )


async def _missing_objects(env: Environment, locations: Sequence[Location]) -> list[str]:
    """The paths of the registered objects that the store lacks."""
    lacking: list[str] = []
    for location in locations:
        async with env.db.connection() as conn:
            names = await files.file_names(conn, location.location_id)
        lacking += await asyncio.to_thread(_lacking, env.data, location.path, names)
    return lacking


def _lacking(store: Store, directory: str, names: Sequence[str]) -> list[str]:
    """Those that a listing, which takes a thousandth of the requests, does not show, and that are really not there."""
    if not names:
        return []
    listed = {each.name for each in store.objects(directory)}
    paths = [f"{directory}/{name}" for name in names if name not in listed]
    return [path for path in paths if not store.exists(path)]
