"""A dataset that is in order, made once, and for each test a copy of its own to break."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.bench import Bench
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.servers import WORKER, Server, as_owner, copied_database, fresh_database, run_apart

LAST = 60
DATASET = "_/devnet"


@dataclass(frozen=True)
class Made:
    """Blocks 0 to ``LAST`` of ``chain`` as ``DATASET``, by a job that is COMPLETED."""

    url: str
    root: Path
    chain: Devnet

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.root / "data"

    def execute(self, statement: str) -> int:
        """How many rows it changed."""
        with psycopg.connect(as_owner(self.url), autocommit=True) as connection:
            return connection.execute(statement.encode()).rowcount

    def revision(self) -> tuple[int, Path]:
        """The first of the revisions, and where its objects are."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute("select id, path from physical_table_revisions order by id").fetchone()
        assert row is not None
        return row[0], self.data / row[1]


@pytest.fixture(scope="module")
def original(embedded: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with run_devnet(LAST) as chain, fresh_database(embedded) as url:
        made = Made(url, tmp_path_factory.mktemp("original"), chain)
        run_apart(lambda: _extract(made))
        shutil.copytree(made.data, made.root / "kept")
        yield made


@pytest.fixture
def made(original: Made, embedded: Server) -> Iterator[Made]:
    """The paths are the same for each copy, since rows hold them."""
    shutil.rmtree(original.data)
    shutil.copytree(original.root / "kept", original.data)
    with copied_database(embedded, original.url.rpartition("/")[2].partition("?")[0]) as name:
        yield Made(embedded.url_of(name, WORKER), original.root, original.chain)


async def _extract(made: Made) -> None:
    db = Database(made.url)
    await db.open()
    bench = Bench(db, made.root, made.chain, options=WriterOptions(segment_blocks=20))
    run = await bench.job(end_block=str(LAST))
    assert await run() == JobOutcome(Outcome.COMPLETED)
    await bench.move(run.id, JobStatus.COMPLETED)
    await bench.close()
    await db.close()
