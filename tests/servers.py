"""Real servers: the embedded Postgres 18 and the system's 15, and a fresh database for every test.

What is tested comes in as the worker's role, which may do what ``grants.sql`` says and no more; a test that changes
more than a worker may comes in as the owner.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.grants import Access
from ampd_ray.metadb.schema import migrate

OWNER, WORKER, READER = "postgres", "amp_worker", "amp_reader"
GRANTS = {WORKER: Access.WORKER, READER: Access.READER}
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
MEMORY = Path("/dev/shm")
ROOM_BYTES = 8 << 30  # for four at a time: servers of a few hundred MB each, and the object stores of Ray
TEMPLATE = "migrated"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Server:
    """A running server; ``url`` is the owner's, of the database ``postgres``."""

    name: str
    url: str

    def url_of(self, database: str, user: str = OWNER) -> str:
        return as_user(user, urlunsplit(urlsplit(self.url)._replace(path=f"/{database}")))

    def migrate(self, database: str) -> str:
        """Make our tables in a database; its URL for the worker's role."""
        run_apart(lambda: migrate(self.url_of(database), grants=GRANTS))
        return self.url_of(database, WORKER)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def create_database(self, template: str) -> str:
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        self.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
        return name


def as_user(user: str, url: str) -> str:
    """The same database for another role: one of ``OWNER``, ``WORKER``, ``READER``."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}"))


def as_owner(url: str) -> str:
    """The same database for its owner, who may do everything."""
    return as_user(OWNER, url)


@asynccontextmanager
async def owner_of(db: Database) -> AsyncIterator[Connection]:
    """A session of the owner in the same database, for what no worker may do."""
    async with Database(make_conninfo(db._route.conninfo, user=OWNER)).session() as conn:
        yield conn


def make_roles(url: str) -> None:
    """The roles of ``GRANTS``, on a server where nobody has made them."""
    with psycopg.connect(url, autocommit=True) as connection:
        for role in GRANTS:
            connection.execute(f"CREATE ROLE {role} LOGIN".encode())


def run_apart(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Run a coroutine to its end on a loop of its own, whatever the test's loop does."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(lambda: asyncio.run(work())).result()


def data_root() -> Path:
    """A short, empty directory for data directories: in memory, if there is room.

    Each database is some 300 files. Where they come and go by the thousand, a disk's file system takes longer and
    longer to find them a place.
    """
    writable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    roomy = writable and min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > ROOM_BYTES
    return Path(tempfile.mkdtemp(prefix="ampd-test-", dir=MEMORY if roomy else None))


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """One for a test."""
    path = data_root()
    yield path
    shutil.rmtree(path)


def _serve(name: str, binaries: Path | None) -> Iterator[Server]:
    root = data_root()
    postgres = EmbeddedPostgres(root / "metadb", binaries=binaries)
    try:
        server = Server(name, postgres.start())
        server.execute("ALTER SYSTEM SET fsync = off")  # these databases need not outlive a crash
        server.execute("SELECT pg_reload_conf()")
        make_roles(server.url)
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
    server.migrate(TEMPLATE)
    return server


@contextmanager
def copied_database(server: Server, template: str) -> Iterator[str]:
    """The name of a fresh copy."""
    name = server.create_database(template)
    yield name
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def fresh_database(server: Server) -> Iterator[str]:
    """The URL of a fresh, migrated database on one server, for what does not differ between servers."""
    with copied_database(server, "template0") as name:
        yield server.migrate(name)


@pytest.fixture
def pg_url(migrated_server: Server) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    with copied_database(migrated_server, TEMPLATE) as name:
        yield migrated_server.url_of(name, WORKER)


@pytest.fixture
def empty_pg_url(server: Server) -> Iterator[str]:
    """The owner's URL of a fresh, empty database."""
    with copied_database(server, "template0") as name:
        yield server.url_of(name)


@pytest.fixture
async def db(pg_url: str) -> AsyncIterator[Database]:
    """An open pool on a fresh, migrated database."""
    database = Database(pg_url, application_name="ampd-ray/test")
    await database.open()
    yield database
    await database.close()
