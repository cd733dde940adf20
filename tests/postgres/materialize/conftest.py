"""Whole jobs on a real database against a devnet, without Ray.

They run on one server: what differs between servers is tried a folder above.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ampd_ray.materialize.types import WriterOptions
from ampd_ray.metadb import datasets
from ampd_ray.metadb.connection import Database
from tests.fakes.bench import Bench
from tests.fakes.devnet import Devnet
from tests.servers import WORKER, Server, copied_database, run_apart

TEMPLATE = "materialize"


@pytest.fixture(scope="session")
def one_server(embedded: Server) -> Server:
    embedded.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    embedded.migrate(TEMPLATE)
    return embedded


@pytest.fixture
def pg_url(one_server: Server) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    with copied_database(one_server, TEMPLATE) as name:
        yield one_server.url_of(name, WORKER)


@pytest.fixture
async def bench(db: Database, tmp_path: Path, devnet: Devnet) -> AsyncIterator[Bench]:
    """A node whose provider is the devnet that the module shares: at block 200, block 136 is final."""
    made = Bench(db, tmp_path, devnet)
    yield made
    await made.close()


@dataclass(frozen=True)
class Original:
    """A database and a directory in which a job has ended, to be copied."""

    database: str
    root: Path


@pytest.fixture(scope="module")
def original(one_server: Server, devnet: Devnet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    """The dataset of ``finished``, extracted once."""
    made = Original(one_server.create_database(TEMPLATE), tmp_path_factory.mktemp("original"))

    async def extract() -> None:
        db = Database(one_server.url_of(made.database, WORKER))
        await db.open()
        bench = Bench(db, made.root, devnet, options=WriterOptions(segment_blocks=25))
        await bench.complete(end_block="99")
        await datasets.link(db, "_", "devnet", bench.manifest.hash)
        await bench.close()
        await db.close()

    run_apart(extract)
    yield made
    one_server.execute(f"DROP DATABASE {made.database} WITH (FORCE)")


@pytest.fixture
def finished_url(one_server: Server, original: Original) -> Iterator[str]:
    """The URL of the database of ``finished``."""
    with copied_database(one_server, original.database) as name:
        yield one_server.url_of(name, WORKER)


@pytest.fixture
async def finished(finished_url: str, original: Original, tmp_path: Path, devnet: Devnet) -> AsyncIterator[Bench]:
    """A node after a job: blocks 0 to 99 of ``_/devnet``, in four files of each table."""
    db = Database(finished_url)
    await db.open()
    bench = Bench(db, tmp_path, devnet)
    shutil.copytree(original.root, tmp_path, dirs_exist_ok=True)
    await bench.execute(
        "update file_metadata set url = replace(url, %s, %s)", original.root.as_uri() + "/", tmp_path.as_uri() + "/"
    )
    yield bench
    await bench.close()
    await db.close()
