"""What a job makes of a full disk and a database in trouble: every block once, or an end with nothing half done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ampd_ray.datasets.manifest import TABLES
from ampd_ray.errors import StoreFull
from ampd_ray.materialize import passes, patience, write
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import LocalStore, ObjectMeta
from tests.fakes.bench import Bench, failure
from tests.fakes.commit_cutter import CommitCutter, Moment, commit_cutter
from tests.fakes.devnet import Devnet

DONE = JobOutcome(Outcome.COMPLETED)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES_SECS", (0.01,))
    monkeypatch.setattr(passes, "FRUITLESS_PAUSE_SECS", 0.001)


# -- the store --------------------------------------------------------------------------------------------------------


class FullStore(LocalStore):
    """Has no room for the objects of one table after the first of them; ``fired`` counts."""

    def __init__(self, root: Path, table: str, *, while_writing: bool) -> None:
        super().__init__(root)
        self._table = table
        self._while_writing = while_writing
        self._published = 0
        self.fired = 0

    def stage(self, location_id: int, epoch: int, name: str) -> Path:
        staged = super().stage(location_id, epoch, name)
        if self._while_writing and self._published >= 3 and not self.fired:
            self.fired += 1
            staged.symlink_to("/dev/full")  # where every write fails with ENOSPC
        return staged

    def publish(self, staged: Path, path: str) -> ObjectMeta:
        if not self._while_writing and f"/{self._table}/" in path and self._published >= 3:
            self.fired += 1
            raise StoreFull(f"cannot write {path}: no space left; free some space", path=path)
        self._published += 1
        return super().publish(staged, path)


@pytest.mark.parametrize("while_writing", [True, False])
async def test_a_full_disk_fails_the_job_and_leaves_nothing_half(bench: Bench, while_writing: bool) -> None:
    bench.options = WriterOptions(segment_blocks=50)
    bench.data = store = FullStore(bench.root / "data", "logs", while_writing=while_writing)
    run = await bench.job(end_block="130")
    facts = failure(await run())
    assert store.fired == 1
    assert (facts["step"], facts["cause"], facts["retryable"]) == ("PARTITION_TASK", "STORE_FULL", True)
    assert {table: await bench.spans(table) for table in TABLES} == {table: [(0, 49)] for table in TABLES}
    assert bench.staged() == []
    # With room again, the next run goes on.
    bench.data = LocalStore(bench.root / "data")
    assert await bench.again(run.spec)() == DONE
    await bench.assert_exactly_once(0, 130)


# -- the database -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def cut_bench(pg_url: str, tmp_path: Path, devnet: Devnet) -> AsyncIterator[tuple[Bench, CommitCutter]]:
    """A bench whose database is behind a proxy that can end commits of files."""
    async with commit_cutter(pg_url, b"insert into file_metadata") as (cutter, url):
        db = Database(url, application_name="ampd-ray/test")
        await db.open()
        made = Bench(db, tmp_path, devnet, options=WriterOptions(segment_blocks=50))
        yield made, cutter
        await made.close()
        await db.close()


async def test_a_database_that_is_away_for_longer_leads_to_a_new_plan(
    cut_bench: tuple[Bench, CommitCutter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next epoch has other names, and sweeps the objects of the first try, which were announced."""
    monkeypatch.setattr(write, "AWAY_WITHIN_SECS", 0.0)
    bench, cutter = cut_bench
    cutter.plan = [Moment.UNDER_WAY] * 3  # one try looks three times
    run = await bench.job(end_block="130")
    assert await run() == DONE
    assert cutter.fired[Moment.UNDER_WAY] == 3
    epochs = [each.locations[0].epoch for each in run.writers.partitions]
    assert epochs == [1, 2]
    assert await bench.spans() == [(0, 49), (50, 99), (100, 130)]
    await bench.assert_exactly_once(0, 130)
    assert len(await bench.objects()) == 9
    swept = await bench.query("select epoch from ampd_ray.file_intent where swept_at is not null")
    assert [row.epoch for row in swept] == [1, 1, 1]
