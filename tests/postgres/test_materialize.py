"""A whole job on each make of server; everything else about jobs is in ``materialize/``, on one of them."""

from __future__ import annotations

from pathlib import Path

from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb.connection import Database
from tests.fakes.bench import Bench
from tests.fakes.devnet import Devnet


async def test_a_range_becomes_committed_files(db: Database, tmp_path: Path, devnet: Devnet) -> None:
    bench = Bench(db, tmp_path, devnet)
    run = await bench.job(end_block="150")
    assert await run() == JobOutcome(Outcome.COMPLETED)
    await bench.assert_exactly_once(0, 150)
    await bench.close()
