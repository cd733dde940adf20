"""Manifests, the datasets they belong to, and the tags that name them (``spec/metadata-db.md`` 2.2, ``data.md`` 3.3).

The manifest's object is written to the manifest directory before its row. A job is pinned to a hash, so that moving
a tag never changes running work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ampd_ray.datasets.names import DatasetRef, is_hash, is_version, meant
from ampd_ray.errors import NotFound
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.queries import load

_SQL: Final = load(__file__)

LATEST: Final = "latest"
DEV: Final = "dev"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """A registered manifest; ``path`` is its object's key below the manifest directory."""

    hash: str
    path: str
    kind: str


@dataclass(frozen=True, slots=True)
class Tag:
    """A name of a manifest within a dataset: a semantic version, ``latest`` or ``dev``."""

    version: str
    hash: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset: its semantic versions, lowest first, the hashes of ``latest`` and ``dev``, its number of manifests."""

    namespace: str
    name: str
    versions: tuple[str, ...]
    latest: str | None
    dev: str | None
    manifests: int


async def register_manifest(conn: Connection, manifest_hash: str, kind: str, path: str | None = None) -> None:
    """Register a manifest; its object must be there. ``path`` is the hash unless told otherwise."""
    await conn.execute(_SQL["register_manifest"], {"hash": manifest_hash, "path": path or manifest_hash, "kind": kind})


async def manifest(conn: Connection, manifest_hash: str) -> ManifestRow:
    """A registered manifest, or NotFound."""
    row = await (await conn.execute(_SQL["manifest"], {"hash": manifest_hash})).fetchone()
    if row is None:
        raise NotFound(f"manifest {manifest_hash} is not registered; see `ampd datasets list`", hash=manifest_hash)
    return ManifestRow(row.hash, row.path, row.kind)


async def link(db: Database, namespace: str, name: str, manifest_hash: str, version: str | None = None) -> None:
    """Make a registered manifest one of a dataset's: ``dev`` moves to it.

    With a semantic ``version`` that tag points to it too, and ``latest`` if no version is greater.
    """
    dataset = {"namespace": namespace, "name": name, "hash": manifest_hash}
    async with db.transaction() as conn:
        await conn.execute(_SQL["lock_dataset"], dataset)
        await manifest(conn, manifest_hash)
        await conn.execute(_SQL["link"], dataset)
        await conn.execute(_SQL["set_tag"], dataset | {"version": DEV})
        if version is not None:
            await conn.execute(_SQL["set_tag"], dataset | {"version": version})
            if _ascending(tag.version for tag in await tags(conn, namespace, name))[-1] == version:
                await conn.execute(_SQL["set_tag"], dataset | {"version": LATEST})


async def tags(conn: Connection, namespace: str, name: str) -> list[Tag]:
    """All tags of a dataset."""
    rows = await conn.execute(_SQL["tags"], {"namespace": namespace, "name": name})
    return [Tag(row.version, row.hash, row.created_at, row.updated_at) for row in await rows.fetchall()]


async def resolve(conn: Connection, ref: DatasetRef) -> str:
    """The manifest hash that a reference means; without a revision ``latest``, else ``dev``. NotFound lists what is."""
    found = {tag.version: tag.hash for tag in await tags(conn, ref.namespace, ref.name)}
    if ref.revision is None:
        chosen = found.get(LATEST) or found.get(DEV)
    elif is_hash(ref.revision):
        values = {"namespace": ref.namespace, "name": ref.name, "hash": ref.revision}
        row = await (await conn.execute(_SQL["linked"], values)).fetchone()
        chosen = row.hash if row else None
    else:
        chosen = found.get(ref.revision)
    if chosen is None:
        if found:
            why = f"it has {', '.join(sorted(found))}{meant(ref.revision or '', found)}"
        else:
            there = [DatasetRef(row.namespace, row.name).dataset for row in await list_datasets(conn)]
            why = f"no dataset of that name is registered{meant(ref.dataset, there)}"
        stop = "" if why.endswith("?") else "."
        see = "See `ampd datasets list` or client.datasets()."
        raise NotFound(f"dataset {ref} does not exist: {why}{stop} {see}", dataset=str(ref))
    return str(chosen)


async def list_datasets(conn: Connection) -> list[DatasetRow]:
    """All datasets by namespace and name."""
    rows = await (await conn.execute(_SQL["datasets"])).fetchall()
    return [
        DatasetRow(
            namespace=row.namespace,
            name=row.name,
            versions=tuple(_ascending(row.tags)),
            latest=row.tags.get(LATEST),
            dev=row.tags.get(DEV),
            manifests=row.manifests,
        )
        for row in rows
    ]


def _ascending(versions: Iterable[str]) -> list[str]:
    """The semantic versions among tags by precedence, lowest first."""
    return sorted(filter(is_version, versions), key=_precedence)


def _precedence(version: str) -> tuple[object, ...]:
    """A sort key as of semver.org 11: a release outranks its pre-releases, numeric labels rank below others."""
    core, _, labels = version.partition("+")[0].partition("-")
    before = [(0, int(label), "") if label.isdigit() else (1, 0, label) for label in labels.split(".")]
    return (*map(int, core.split(".")), not labels, before)
