from __future__ import annotations

import pytest

from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import NotFound
from ampd_ray.metadb import datasets
from ampd_ray.metadb.connection import Database

OLD, NEW = "a" * 64, "b" * 64


async def register(db: Database, *hashes: str) -> None:
    async with db.connection() as conn:
        for manifest_hash in hashes:
            await datasets.register_manifest(conn, manifest_hash, "evm-rpc")


async def resolve(db: Database, text: str) -> str:
    async with db.connection() as conn:
        return await datasets.resolve(conn, DatasetRef.parse(text))


async def test_a_manifest_is_registered_once(db: Database) -> None:
    await register(db, OLD)
    async with db.connection() as conn:
        await datasets.register_manifest(conn, OLD, "other", path="elsewhere")
        assert await datasets.manifest(conn, OLD) == datasets.ManifestRow(OLD, OLD, "evm-rpc")
        with pytest.raises(NotFound, match=NEW):
            await datasets.manifest(conn, NEW)


async def test_dev_moves_at_every_link(db: Database) -> None:
    await register(db, OLD, NEW)
    await datasets.link(db, "_", "eth", OLD)
    assert await resolve(db, "eth@dev") == await resolve(db, "_/eth") == OLD
    await datasets.link(db, "_", "eth", NEW)
    assert await resolve(db, "eth@dev") == NEW
    assert await resolve(db, f"eth@{OLD}") == OLD


async def test_latest_follows_the_greatest_version_only(db: Database) -> None:
    await register(db, OLD, NEW)
    await datasets.link(db, "_", "eth", NEW, version="1.10.0")
    await datasets.link(db, "_", "eth", OLD, version="1.9.0")
    assert await resolve(db, "eth") == await resolve(db, "eth@latest") == NEW
    assert await resolve(db, "eth@1.9.0") == await resolve(db, "eth@dev") == OLD
    await datasets.link(db, "_", "eth", OLD, version="2.0.0")
    assert await resolve(db, "eth@latest") == OLD


async def test_a_release_outranks_its_pre_releases(db: Database) -> None:
    await register(db, OLD)
    for version in ("1.0.0", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0-alpha", "0.9.9"):
        await datasets.link(db, "_", "eth", OLD, version=version)
    async with db.connection() as conn:
        (row,) = await datasets.list_datasets(conn)
    assert row.versions == ("0.9.9", "1.0.0-alpha", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0")
    assert (row.latest, row.dev, row.manifests) == (OLD, OLD, 1)


async def test_what_is_not_there_is_named(db: Database) -> None:
    await register(db, OLD, NEW)
    with pytest.raises(NotFound, match="no dataset of that name"):
        await resolve(db, "eth")
    await datasets.link(db, "_", "eth", OLD, version="1.0.0")
    with pytest.raises(NotFound, match=r"eth@2\.0\.0 does not exist: it has 1\.0\.0, dev, latest"):
        await resolve(db, "eth@2.0.0")
    with pytest.raises(NotFound, match=NEW):
        await resolve(db, f"eth@{NEW}")
    with pytest.raises(NotFound, match=r"c{64}"):
        await datasets.link(db, "_", "eth", "c" * 64)
