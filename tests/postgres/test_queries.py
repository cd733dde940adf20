"""Every named block of every ``.sql`` file is understood by Postgres, against the schema as migrated."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import ampd_ray.metadb
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.queries import Query, load
from tests.servers import as_owner

FILES = sorted(Path(ampd_ray.metadb.__file__).parent.glob("*.sql"))
MIGRATIONS = {"public.sql", "ampd_ray.sql"}
"""DDL, which cannot be prepared: the migration of the test's database ran it."""


@pytest.fixture
async def conn(pg_url: str) -> AsyncIterator[Connection]:
    async with Database(as_owner(pg_url)).session() as conn, conn.transaction():
        await conn.execute("create table _sqlx_migrations (version bigint, success boolean)")
        yield conn


def numbered(query: Query) -> bytes:
    """The block with ``$1``, ``$2``… for its named values, as PREPARE wants it."""
    text = query.decode()
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
    for at, name in enumerate(names, 1):
        text = text.replace(f"%({name})s", f"${at}")
    return text.replace("%%", "%").encode()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_every_block_is_prepared(conn: Connection, path: Path) -> None:
    queries = load(path)
    assert queries
    for name, query in queries.items():
        if path.name in MIGRATIONS:
            assert re.match(rb"create|alter", query), name
        elif "{role}" in query.decode():
            assert re.match(rb"(?:(?:grant|revoke all) [^;]+(?:to|from) \{role\};\s*)+$", query), name
        else:
            await conn.execute(f"prepare {path.stem}_{name} as ".encode() + numbered(query))


def test_every_file_of_sql_stands_beside_a_module_or_is_a_migration() -> None:
    modules = {path.stem for path in FILES[0].parent.glob("*.py")}
    assert {path.name for path in FILES if path.stem not in modules} == MIGRATIONS


def test_every_block_is_used_by_its_module() -> None:
    unused = [
        f"{path.name}: {name}"
        for path in FILES
        if path.name not in MIGRATIONS
        for name in load(path)
        if not re.search(rf'"{name}"', path.with_suffix(".py").read_text())
    ]
    assert unused == []
