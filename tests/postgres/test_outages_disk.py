"""The database's disk is full, for real: the job waits, and goes on when there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampd_ray.errors import AmpdError
from ampd_ray.materialize.types import WriterOptions
from ampd_ray.metadb.connection import Database
from tests.fakes.bench import NODE, Bench, until
from tests.fakes.devnet import Devnet
from tests.fakes.own_postgres import own_postgres
from tests.fakes.tiny_disk import tiny_disk
from tests.postgres.works import works

DISK_MB = 160
DISK_FULL = "53100"


def told(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The SQLSTATEs of the errors in the log."""
    errors = [getattr(record, "error", None) for record in caplog.records]
    return {error.details.get("sqlstate", "") for error in errors if isinstance(error, AmpdError)}


@pytest.mark.parametrize("devnet", [20], indirect=True)
async def test_a_full_disk_is_waited_out(tmp_path: Path, devnet: Devnet, caplog: pytest.LogCaptureFixture) -> None:
    with tiny_disk(DISK_MB) as disk, own_postgres(disk.path / "metadb") as server:
        db = Database(server.url)
        await db.open()
        bench = Bench(db, tmp_path, devnet, options=WriterOptions(segment_blocks=10))
        job = await bench.job(end_block="220")
        async with works(bench, server.url, NODE) as node:
            await until(bench.spans)
            server.execute("select pg_switch_wal()")  # what is left of the log is room enough: no panic of the server
            server.execute("checkpoint")
            disk.fill()
            devnet.mine(200)
            await until(lambda: DISK_FULL in told(caplog))
            disk.make_room()

            async def completed() -> bool:
                (row,) = await bench.query("select status from jobs_status where job_id = %s", job.id)
                return bool(row.status == "COMPLETED")

            await until(completed)
            assert node.coordinator.counters.job_starts == 1
        await bench.assert_exactly_once(0, 220)
        await bench.close()
        await db.close()
