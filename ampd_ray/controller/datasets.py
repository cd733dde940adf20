"""Registers datasets, and refuses to deploy what a raw job cannot run (``spec/metadata-db.md`` 10.2, 10.3)."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ampd_ray.datasets import names
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import KIND, TABLES, Manifest, stored_manifest, table_differences
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import InvalidDescriptor, InvalidManifest, InvalidName
from ampd_ray.metadb import datasets
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.store.files import Store

_log: Final = logging.getLogger(__name__)

UNKNOWN_KIND: Final = "unknown"  # the column's default: rows older than the column


async def register_dataset(
    db: Database,
    manifests: Store,
    manifest: Manifest,
    namespace: str,
    name: str,
    version: str | None = None,
) -> str:
    """Store ``manifest`` and make it the newest revision of ``namespace/name``; its hash. May be repeated.

    The object comes first, so that no row points to nothing. ``dev`` moves to it, and so does ``version`` if given.
    """
    names.namespace(namespace)
    names.dataset_name(name)
    if version is not None and not names.is_version(version):
        raise InvalidName(f"{version!r} is not a semantic version, such as 1.2.0", name=version)
    for difference in table_differences(manifest):
        _log.warning("the manifest's tables are decorative: %s", difference, extra={"dataset": f"{namespace}/{name}"})
    await asyncio.to_thread(manifests.write, manifest.hash, manifest.canonical_bytes())
    async with db.connection() as conn:
        await datasets.register_manifest(conn, manifest.hash, manifest.kind)
    await datasets.link(db, namespace, name, manifest.hash, version)
    return manifest.hash


async def load_manifest(db: Database, manifests: Store, ref: DatasetRef) -> Manifest:
    """The manifest that ``ref`` means. Raises NotFound, ObjectMissing, or InvalidManifest for a changed object."""
    async with db.connection() as conn:
        manifest_hash = await datasets.resolve(conn, ref)
        row = await datasets.manifest(conn, manifest_hash)
    return stored_manifest(await asyncio.to_thread(manifests.read, row.path), manifest_hash)


async def check_deployable(conn: Connection, descriptor: JobDescriptor) -> None:
    """Raise unless a raw job can do what ``descriptor`` says: Amp schedules such jobs, and they become FATAL.

    :class:`NotFound` for a manifest that is not registered, :class:`InvalidManifest` for another kind of dataset,
    :class:`InvalidDescriptor` for tables that do not exist or cannot be verified.
    """
    row = await datasets.manifest(conn, descriptor.manifest_hash)
    if row.kind not in (KIND, UNKNOWN_KIND):
        raise InvalidManifest(
            f"{descriptor.dataset} is of kind {row.kind!r}; raw jobs run datasets of kind {KIND!r} only", kind=row.kind
        )
    unknown = sorted(set(descriptor.tables or ()) - set(TABLES))
    if unknown or descriptor.tables == ():
        raise InvalidDescriptor(f"{descriptor.dataset} has the tables {', '.join(TABLES)}; not {', '.join(unknown)}")
    if descriptor.verify and set(descriptor.tables or TABLES) != set(TABLES):
        raise InvalidDescriptor(f"verifying {descriptor.dataset} needs all of its tables: {', '.join(TABLES)}")
