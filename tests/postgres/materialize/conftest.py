"""Whole jobs on a real database against a devnet, without Ray.

They run on one server: what differs between servers is tried a folder above.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.schema import migrate
from tests.fakes.bench import Bench
from tests.fakes.devnet import Devnet
from tests.servers import Server, run_apart

TEMPLATE = "materialize"


@pytest.fixture(scope="session")
def one_server(embedded: Server) -> Server:
    embedded.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    run_apart(lambda: migrate(embedded.url_of(TEMPLATE)))
    return embedded


@pytest.fixture
def pg_url(one_server: Server) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    name = one_server.create_database(TEMPLATE)
    yield one_server.url_of(name)
    one_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def bench(db: Database, tmp_path: Path, devnet: Devnet) -> AsyncIterator[Bench]:
    """A node whose provider is the devnet that the module shares: at block 200, block 136 is final."""
    made = Bench(db, tmp_path, devnet)
    yield made
    await made.close()
