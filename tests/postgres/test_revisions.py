from __future__ import annotations

import asyncio
import logging
import re
import time

import pytest

from ampd_ray.metadb import revisions
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.revisions import open_revision, uuid7

HASH = "a" * 64


async def test_a_revision_is_made_once_and_found_again(db: Database) -> None:
    made = await open_revision(db, "_", "eth", HASH, "blocks")
    assert re.fullmatch(r"_/eth/blocks/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", made.path)
    assert await open_revision(db, "_", "eth", HASH, "blocks") == made
    logs = await open_revision(db, "_", "eth", HASH, "logs")
    async with db.connection() as conn:
        assert await revisions.active_revisions(conn, "_", "eth", HASH) == {"blocks": made, "logs": logs}
        row = await (await conn.execute("select writer, metadata from physical_table_revisions order by id")).fetchone()
    assert row is not None
    assert row.writer is None
    assert row.metadata == {
        "dataset_namespace": "_",
        "dataset_name": "eth",
        "manifest_hash": HASH,
        "table_name": "blocks",
    }


async def test_processes_that_race_get_the_same_revision(db: Database) -> None:
    made = await asyncio.gather(*(open_revision(db, "_", "eth", HASH, "blocks") for _ in range(8)))
    assert len(set(made)) == 1
    async with db.connection() as conn:
        row = await (await conn.execute("select count(*) as count from physical_table_revisions")).fetchone()
    assert row is not None
    assert row.count == 1


async def test_another_dataset_with_the_same_manifest_is_warned_about(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    first = await open_revision(db, "_", "eth", HASH, "blocks")
    with caplog.at_level(logging.WARNING):
        second = await open_revision(db, "_", "copy", HASH, "blocks")
    assert first != second
    assert "_/eth" in caplog.text


async def test_a_job_names_itself_as_the_writer(db: Database) -> None:
    made = await open_revision(db, "_", "eth", HASH, "blocks")
    async with db.connection() as conn:
        await conn.execute("insert into workers (node_id, heartbeat_at) values ('one', now())")
        row = await (
            await conn.execute("insert into jobs (node_id, idempotency_key) values ('one', 'k') returning id")
        ).fetchone()
        assert row is not None
        assert await revisions.written_by(conn, row.id) == {}
        await revisions.set_writer(conn, [made.location_id], row.id)
        assert await revisions.written_by(conn, row.id) == {"blocks": made}


def test_uuids_sort_by_age(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_700_000_000_000, 1_700_000_000_100))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock) * 1_000_000)
    made = [uuid7() for _ in range(100)]
    assert made == sorted(made)
    assert {(value.version, value.variant) for value in made} == {(7, "specified in RFC 4122")}
