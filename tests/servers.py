"""Real servers: the embedded Postgres 18 and the system's 15, and a fresh database for every test."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.schema import migrate

POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
TEMPLATE = "migrated"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Server:
    """A running server; ``url`` is that of its database ``postgres``."""

    name: str
    url: str

    def url_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def create_database(self, template: str) -> str:
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name


def run_apart(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Run a coroutine to its end on a loop of its own, whatever the test's loop does."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(lambda: asyncio.run(work())).result()


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """A short, empty directory for data directories."""
    path = Path(tempfile.mkdtemp(prefix="ampd-test-"))
    yield path
    shutil.rmtree(path)


def _serve(name: str, binaries: Path | None) -> Iterator[Server]:
    root = Path(tempfile.mkdtemp(prefix="ampd-test-"))
    postgres = EmbeddedPostgres(root / "metadb", binaries=binaries)
    try:
        server = Server(name, postgres.start())
        server.execute("ALTER SYSTEM SET fsync = off")  # these databases need not outlive a crash
        server.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        postgres.stop(patience=1.0)
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def embedded() -> Iterator[Server]:
    """The Postgres 18 of the wheel."""
    yield from _serve("embedded-18", None)


@pytest.fixture(scope="session")
def system_15() -> Iterator[Server]:
    """The system's Postgres 15, the oldest that we support."""
    if not POSTGRES_15.exists():
        pytest.skip(f"no Postgres 15 in {POSTGRES_15}")
    yield from _serve("system-15", POSTGRES_15)


@pytest.fixture(scope="session", params=["embedded", "system_15"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def migrated_server(server: Server) -> Server:
    """The server with a migrated database to copy."""
    server.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    run_apart(lambda: migrate(server.url_of(TEMPLATE)))
    return server


def _database(server: Server, template: str) -> Iterator[str]:
    name = server.create_database(template)
    yield server.url_of(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def pg_url(migrated_server: Server) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    yield from _database(migrated_server, TEMPLATE)


@pytest.fixture
def empty_pg_url(server: Server) -> Iterator[str]:
    """The URL of a fresh, empty database."""
    yield from _database(server, "template0")


@pytest.fixture
async def db(pg_url: str) -> AsyncIterator[Database]:
    """An open pool on a fresh, migrated database."""
    database = Database(pg_url, application_name="ampd-ray/test")
    await database.open()
    yield database
    await database.close()
