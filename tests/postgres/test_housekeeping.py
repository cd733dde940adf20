"""A node sweeps what nobody holds, and minds no failure of that."""

from __future__ import annotations

from pathlib import Path

from ampd_ray.metadb import jobs
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.revisions import Revision, open_revision
from tests.postgres.nodes import NODE, descriptor, execute, node, settings_in, until
from tests.postgres.test_coordinator import registered

NAME = "000000000-00000000000000aa.parquet"


async def left_behind(db: Database, directory: Path) -> tuple[Revision, Path]:
    """A published file whose writer is gone: node ``gone`` of our group held the revision a minute ago."""
    await registered(db, "gone")
    await execute(db, """update workers set info = info || '{"failover_group": "here"}'""")
    revision = await open_revision(db, "_", "eth", "a" * 64, "blocks")
    await execute(
        db,
        "insert into ampd_ray.location_lease (location_id, epoch, job_id, node_id, incarnation, expires_at)"
        " values (%s, 2, 77, 'gone', gen_random_uuid(), now() - interval '1 minute')",
        revision.location_id,
    )
    await execute(
        db, "insert into ampd_ray.file_intent (location_id, file_name, epoch) values (%s, %s, 1)",
        revision.location_id, NAME,
    )  # fmt: skip
    path = Path(settings_in(directory).data_dir) / revision.path / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    return revision, path


async def test_a_node_sweeps_what_nobody_holds(pg_url: str, db: Database, tmp_path: Path) -> None:
    _, path = await left_behind(db, tmp_path)
    async with node(pg_url, tmp_path):
        await until(lambda: not path.exists())
        swept = "select 1 from ampd_ray.file_intent where swept_at is not null"
        await until(lambda: execute(db, swept))


async def test_a_node_forgets_the_rates_of_jobs_that_others_deleted(pg_url: str, db: Database, tmp_path: Path) -> None:
    rate = (
        "insert into ampd_ray.job_rate (job_id, node_id, secs, blocks, rows, requests) values (77, 'gone', 5, 1, 1, 1)"
    )
    await execute(db, rate)
    async with node(pg_url, tmp_path):
        await until(lambda: execute(db, "select 1 where not exists (select from ampd_ray.job_rate)"))


async def test_a_sweep_that_fails_stops_nothing(pg_url: str, db: Database, tmp_path: Path) -> None:
    _, path = await left_behind(db, tmp_path)
    path.unlink()
    (path / "a directory that cannot be unlinked").mkdir(parents=True)
    async with node(pg_url, tmp_path) as running:
        await jobs.schedule(db, descriptor(), NODE)
        await running.one_job()
        assert not running.ended
        assert await execute(db, "select 1 from ampd_ray.file_intent where swept_at is null")
