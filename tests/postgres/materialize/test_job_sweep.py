"""Jobs that sweep beside their work: what others left goes, what they replace goes later, and no failure matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ampd_ray.errors import StoreError
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import LocalStore
from tests.fakes.bench import Bench, Run, until
from tests.fakes.devnet import Devnet

DONE = JobOutcome(Outcome.COMPLETED)
NAME = "000000000-00000000000000aa.parquet"


class NoDeletes(LocalStore):
    """A store in which nothing can be deleted; ``fired`` counts."""

    fired = 0

    def delete(self, path: str) -> None:
        self.fired += 1
        raise StoreError(f"cannot delete {path}")

    def clear_staging(self, location_id: int, below_epoch: int) -> None:
        self.fired += 1
        raise StoreError("cannot clear")


async def leave_behind(bench: Bench, run: Run) -> list[Path]:
    """What a writer of epoch 0 left of table ``logs``: a staged file, and a published one."""
    assert await run() == DONE
    revision = (await bench.revisions())["logs"]
    await bench.execute(
        "insert into ampd_ray.file_intent (location_id, file_name, epoch) values (%s, %s, 0)",
        revision.location_id, NAME,
    )  # fmt: skip
    bench.data.write(f"{revision.path}/{NAME}", b"half a file")
    staged = bench.data.stage(revision.location_id, 0, "half")
    staged.write_bytes(b"half")
    return [staged, bench.root / "data" / revision.path / NAME]


async def test_a_job_begins_with_a_sweep(bench: Bench) -> None:
    run = await bench.job(end_block="30")
    left = await leave_behind(bench, run)
    assert await bench.again(run.spec)() == DONE
    assert not any(path.exists() for path in left)
    await bench.assert_exactly_once(0, 30)


async def test_a_sweep_that_fails_keeps_no_job_from_its_work(bench: Bench) -> None:
    run = await bench.job(end_block="30")
    left = await leave_behind(bench, run)
    bench.data = store = NoDeletes(bench.root / "data")
    again = bench.again(run.spec)
    assert await again() == DONE
    assert store.fired >= 2
    assert all(path.exists() for path in left)


async def test_a_job_that_is_cancelled_leaves_no_sweep_running(bench: Bench) -> None:
    run = await bench.job()
    running = asyncio.create_task(run())
    await until(lambda: run.job.meter.phase == "waiting")
    assert any("Sweeper.run" in repr(task) for task in asyncio.all_tasks())
    run.job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not any("Sweeper" in repr(task) for task in asyncio.all_tasks())


# -- files that a reorg replaced ---------------------------------------------------------------------------------------


@pytest.fixture
async def growing(db: Database, tmp_path: Path, devnet_server: Callable[..., Devnet]) -> AsyncIterator[Bench]:
    """A bench with a devnet of its own, at block 20, whose job collects what is replaced as soon as it may."""
    made = Bench(db, tmp_path, devnet_server(20, finality=5))
    made.options = WriterOptions(segment_blocks=10, collect_after_secs=0.0)
    made.settings["sweep_every_secs"] = 0.0
    yield made
    await made.close()


async def follows(bench: Bench) -> bool:
    """True if the canonical chain of every table ends in the devnet's head."""
    tip = bench.devnet.chain.head
    chains = [await bench.canonical(table) for table in ("blocks", "transactions", "logs")]
    return all(chain and (chain[-1].range.end, chain[-1].range.hash) == (tip.number, tip.hash) for chain in chains)


async def only_the_chain_is_left(bench: Bench) -> bool:
    """True if every file is live, and every object is that of a file."""
    waiting = await bench.query(
        "select 1 as one from gc_manifest union all select 1 from ampd_ray.tombstone"
        " union all select 1 from ampd_ray.segment where not canonical"
    )
    paths = {path for table in ("blocks", "transactions", "logs") for path in (await bench.paths(table)).values()}
    return not waiting and await bench.objects() == paths


async def test_what_a_reorg_replaced_is_collected_while_the_job_goes_on(growing: Bench) -> None:
    run = await growing.job()
    running = asyncio.create_task(run())
    await until(lambda: follows(growing))
    for depth in (1, 2):
        growing.devnet.reorg(depth)
        growing.devnet.mine()
        await until(lambda: follows(growing))
        await until(lambda: only_the_chain_is_left(growing))
    await growing.assert_exactly_once(0, growing.devnet.chain.head.number)
    growing.devnet.mine(3)
    await until(lambda: follows(growing))
    await run.job.stop(5.0)
    await running
    await growing.assert_exactly_once(0, growing.devnet.chain.head.number)


async def test_with_collection_switched_off_everything_stays(growing: Bench) -> None:
    growing.options = WriterOptions(segment_blocks=10)
    run = await growing.job()
    running = asyncio.create_task(run())
    await until(lambda: follows(growing))
    growing.devnet.reorg(1)
    growing.devnet.mine()
    await until(lambda: follows(growing))
    await run.job.stop(5.0)
    await running
    assert await growing.query("select 1 as one from gc_manifest") == []
    assert await growing.query("select 1 as one from ampd_ray.segment where not canonical") != []
