"""Deploying and retrying on a real server: which jobs, on which node, by which of several loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ampd_ray.cli import solo
from ampd_ray.client.solo import with_database
from ampd_ray.config.keys import MetadataDb
from ampd_ray.controller.datasets import load_manifest, register_dataset
from ampd_ray.controller.service import RetryLoop, deploy
from ampd_ray.controller.thread import RetryThread
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import Manifest, evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import (
    InvalidDescriptor,
    InvalidManifest,
    InvalidName,
    JobConflict,
    NotFound,
    SchedulerError,
    WorkerNotAvailable,
)
from ampd_ray.metadb import jobs, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.store.files import Store, open_store
from tests.postgres.nodes import execute, history, job, set_status, settings_in, status, until

S = JobStatus
MANIFEST = evm_rpc_manifest("testnet")


async def alive(db: Database, *node_ids: str) -> None:
    async with db.connection() as conn:
        for node_id in node_ids:
            await workers.register(conn, node_id, {"implementation": "ampd-ray"})


async def dead(db: Database, node_id: str) -> None:
    await execute(db, "update workers set heartbeat_at = heartbeat_at - interval '1 h' where node_id = %s", node_id)


def work(name: str = "eth", manifest: Manifest = MANIFEST, **fields: Any) -> JobDescriptor:
    return JobDescriptor(dataset_namespace="_", dataset_name=name, manifest_hash=manifest.hash, **fields)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "manifests").mkdir()
    return open_store(str(tmp_path / "manifests"))


@pytest.fixture
async def registered(db: Database, store: Store) -> None:
    """The manifest, under several datasets."""
    for name in ("a", "b", "c", "eth"):
        await register_dataset(db, store, MANIFEST, "_", name)


@asynccontextmanager
async def loop(db: Database, tmp_path: Path, **ours: Any) -> AsyncIterator[RetryLoop]:
    retries = RetryLoop(db, settings_in(tmp_path, **ours))
    try:
        yield retries
    finally:
        await retries.close()


async def in_error(db: Database, name: str, node_id: str, *, failures: int = 1, due: bool = True) -> int:
    job_id = await jobs.schedule(db, work(name), node_id)
    await set_status(db, job_id, "ERROR", node_id)
    await execute(
        db,
        "insert into ampd_ray.job_state (job_id, consecutive_failures, next_retry_at) "
        "values (%s, %s, now() + %s * interval '1 s')",
        job_id,
        failures,
        -1 if due else 60,
    )
    return job_id


# -- datasets -------------------------------------------------------------------------------------------------------


async def test_a_dataset_is_registered_once_and_read_back(db: Database, store: Store) -> None:
    for _ in range(2):
        assert await register_dataset(db, store, MANIFEST, "_", "eth", "1.2.0") == MANIFEST.hash
    for text in ("eth", "eth@dev", "eth@latest", "eth@1.2.0", f"eth@{MANIFEST.hash}"):
        assert await load_manifest(db, store, DatasetRef.parse(text)) == MANIFEST


async def test_a_changed_manifest_is_noticed(db: Database, store: Store) -> None:
    await register_dataset(db, store, MANIFEST, "_", "eth")
    store.delete(MANIFEST.hash)
    store.write(MANIFEST.hash, evm_rpc_manifest("mainnet").canonical_bytes())
    with pytest.raises(InvalidManifest, match="was changed"):
        await load_manifest(db, store, DatasetRef.parse("eth"))


@pytest.mark.parametrize(("namespace", "name", "version"), [("A", "x", None), ("_", "1", None), ("_", "x", "latest")])
async def test_bad_names_register_nothing(
    db: Database, store: Store, namespace: str, name: str, version: str | None
) -> None:
    with pytest.raises(InvalidName):
        await register_dataset(db, store, MANIFEST, namespace, name, version)
    assert not store.exists(MANIFEST.hash)


# -- deploy ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("registered")
async def test_jobs_spread_over_the_workers(db: Database) -> None:
    await alive(db, "w1", "w2")
    taken = {(await job(db, await deploy(db, work(name)))).node_id for name in ("a", "b")}
    assert taken == {"w1", "w2"}


@pytest.mark.usefixtures("registered")
async def test_a_selector_is_followed_and_an_identical_job_is_returned(db: Database) -> None:
    await alive(db, "w1", "w2")
    job_id = await deploy(db, work(), "w2")
    assert (await job(db, job_id)).node_id == "w2"
    assert await deploy(db, work(), "w1") == job_id
    with pytest.raises(JobConflict):
        await deploy(db, work(end_block="5"), "w2")
    with pytest.raises(WorkerNotAvailable):
        await deploy(db, work("a"), "w3")


@pytest.mark.usefixtures("registered")
async def test_without_a_live_worker_nothing_is_scheduled(db: Database) -> None:
    with pytest.raises(SchedulerError, match="ampd worker"):
        await deploy(db, work())
    assert await execute(db, "select 1 from jobs") == []


@pytest.mark.usefixtures("registered")
async def test_what_a_raw_job_cannot_run_is_refused(db: Database) -> None:
    await alive(db, "w1")
    with pytest.raises(InvalidDescriptor, match="traces"):
        await deploy(db, work(tables=("traces",)))
    with pytest.raises(InvalidDescriptor, match="needs all"):
        await deploy(db, work(tables=("logs",), verify=True))
    with pytest.raises(NotFound):
        await deploy(db, work(manifest=evm_rpc_manifest("other")))
    await execute(db, "update manifest_files set kind = 'manifest'")
    with pytest.raises(InvalidManifest, match="'manifest'"):
        await deploy(db, work())
    assert await execute(db, "select 1 from jobs") == []


# -- retries --------------------------------------------------------------------------------------------------------


async def test_a_due_job_is_scheduled_again_on_its_node(db: Database, tmp_path: Path) -> None:
    await alive(db, "w1", "w2")
    due, later = await in_error(db, "a", "w1"), await in_error(db, "b", "w1", due=False)
    async with loop(db, tmp_path) as retries:
        await retries.tick()
        await retries.tick()
        assert retries.counters.retried == 1
    found = await job(db, due)
    assert (found.status, found.node_id) == (S.SCHEDULED, "w1")
    assert await history(db, due) == ["SCHEDULED", "SCHEDULED"]
    assert await status(db, later) is S.ERROR


async def test_a_dead_nodes_job_goes_to_another(db: Database, tmp_path: Path) -> None:
    await alive(db, "w1", "w2")
    job_id = await in_error(db, "a", "w1")
    await dead(db, "w1")
    async with loop(db, tmp_path) as retries:
        await retries.tick()
    assert (await job(db, job_id)).node_id == "w2"


async def test_a_job_waits_for_a_live_worker(db: Database, tmp_path: Path) -> None:
    await alive(db, "w1")
    job_id = await in_error(db, "a", "w1")
    await dead(db, "w1")
    async with loop(db, tmp_path) as retries:
        await retries.tick()
        assert await status(db, job_id) is S.ERROR
        await alive(db, "w2")
        await retries.tick()
    assert await status(db, job_id) is S.SCHEDULED


async def test_a_job_in_error_of_an_amp_worker_counts_from_its_failure(db: Database, tmp_path: Path) -> None:
    await alive(db, "w1")
    job_id = await jobs.schedule(db, work(), "w1")
    await set_status(db, job_id, "ERROR", "w1")
    await execute(db, "update jobs_status set updated_at = now() at time zone 'utc'")
    async with loop(db, tmp_path) as retries:
        await retries.tick()
        assert await status(db, job_id) is S.ERROR
        await execute(db, "update jobs_status set updated_at = updated_at - interval '1 h'")
        await retries.tick()
    assert await status(db, job_id) is S.SCHEDULED


async def test_exhausted_jobs_are_left_alone(db: Database, tmp_path: Path) -> None:
    await alive(db, "w1")
    tired, often = await in_error(db, "a", "w1", failures=3), await in_error(db, "b", "w1")
    await execute(
        db,
        "insert into job_events (job_id, node_id, event_type) select %s, 'w1', 'SCHEDULED' from generate_series(1, 39)",
        often,
    )
    async with loop(db, tmp_path, retry_max_attempts=3) as retries:
        await retries.tick()
    assert [await status(db, tired), await status(db, often)] == [S.ERROR, S.ERROR]


async def test_one_bad_row_never_stops_the_rest(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await alive(db, "w1")
    bad, good = await in_error(db, "a", "w1"), await in_error(db, "b", "w1")
    real = jobs.reschedule

    async def picky(db: Database, job_id: int, node_id: str) -> bool:
        if job_id == bad:
            raise ZeroDivisionError
        return await real(db, job_id, node_id)

    monkeypatch.setattr(jobs, "reschedule", picky)
    async with loop(db, tmp_path) as retries:
        await retries.tick()
        assert (retries.counters.failed_retries, retries.counters.retried) == (1, 1)
    assert await status(db, good) is S.SCHEDULED


async def test_of_two_loops_one_leads_until_it_ends(db: Database, tmp_path: Path) -> None:
    async with loop(db, tmp_path) as first, loop(db, tmp_path) as second:
        await first.tick()
        await second.tick()
        assert (first.counters.ticks, second.counters.ticks) == (1, 0)
        await first.close()

        async def leads() -> bool:
            await second.tick()
            return second.counters.ticks > 0

        await until(leads)


async def test_a_lost_session_costs_a_tick(db: Database, tmp_path: Path) -> None:
    async with loop(db, tmp_path) as retries:
        running = asyncio.create_task(retries.run())
        await until(lambda: retries.counters.ticks)
        cut = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
        assert await execute(db, cut)
        ticks = retries.counters.ticks
        await until(lambda: retries.counters.ticks > ticks)
        assert retries.counters.failed_ticks >= 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_thread_retries_beside_other_work(db: Database, pg_url: str, tmp_path: Path) -> None:
    await alive(db, "w1")
    job_id = await in_error(db, "a", "w1")
    settings = settings_in(tmp_path).model_copy(update={"metadata_db": MetadataDb(url=SecretStr(pg_url))})
    with RetryThread(settings):

        async def again() -> bool:
            return await status(db, job_id) is S.SCHEDULED

        await until(again)


# -- what an environment stays for ----------------------------------------------------------------------------------


async def at_work(db: Database) -> bool:
    async with db.connection() as conn:
        return await jobs.at_work(conn)


async def test_a_job_is_at_work_until_it_has_ended(db: Database) -> None:
    assert not await at_work(db)
    await alive(db, "w1")
    job_id = await jobs.schedule(db, work(), "w1")
    for now in [*jobs.ACTIVE, *jobs.TERMINAL]:
        await set_status(db, job_id, now.lower(), "w1")
        assert await at_work(db) == (now in jobs.ACTIVE), now


async def test_a_failed_job_is_at_work_if_it_is_tried_again_soon(db: Database) -> None:
    await alive(db, "w1")
    job_id = await in_error(db, "eth", "w1")
    change = "update ampd_ray.job_state set next_retry_at = now() + %s * interval '1 s' where job_id = %s"
    for next_in_secs, expected in [(-30, False), (-1, True), (30, True), (120, False)]:
        await execute(db, change, next_in_secs, job_id)
        assert await at_work(db) == expected, next_in_secs


async def test_an_environment_on_a_database_of_many_stays_for_its_own_jobs_only(
    db: Database, pg_url: str, tmp_path: Path
) -> None:
    settings = with_database(settings_in(tmp_path), pg_url)
    for node_id, stays in [("w2", False), (solo.SOLO_NODE_ID, True)]:
        await alive(db, node_id)
        await jobs.schedule(db, work(node_id), node_id)
        assert await asyncio.to_thread(solo._at_work, settings, None) == stays
