"""The commits of a job as somebody outside hears of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from ampd_ray.chain.ranges import Span
from ampd_ray.metadb.notifications import CHANGE_TRACKING

_NEWEST: Final = "select coalesce(max(id), 0) from file_metadata"
# By the primary key, also without statistics: this session's CPU counts among that of Postgres.
_SINCE: Final = """
with added as materialized (select * from ampd_ray.segment where file_id > %s order by file_id limit 1000)
select file_id, lower(blocks), upper(blocks) - 1 from added where location_id = %s order by file_id
"""


@dataclass(frozen=True)
class Commit:
    """The blocks of a file, and when its notification came, in seconds of ``time.monotonic``."""

    span: Span
    at: float


class Listener:
    """Hears of the files that are added to one revision. One session ``hears``, the other ``reads`` what it is."""

    def __init__(self, hears: psycopg.Connection[Any], reads: psycopg.Connection[Any], location_id: int) -> None:
        self._hears, self._reads = hears, reads
        self._location_id = location_id
        ((self._newest,),) = reads.execute(_NEWEST).fetchall()
        hears.execute(sql.SQL("listen {}").format(sql.Identifier(CHANGE_TRACKING)))

    def until(self, block: int, within_secs: float) -> list[Commit]:
        """The commits from now on, up to that of ``block``."""
        commits: list[Commit] = []
        for heard in self._hears.notifies(timeout=within_secs):
            at = time.monotonic()
            if heard.payload == str(self._location_id):
                commits += [Commit(span, at) for span in self._added()]
            if commits and commits[-1].span.end >= block:
                return commits
        raise AssertionError(f"no commit of block {block} within {within_secs:.0f} s; the last were {commits[-3:]}")

    def _added(self) -> list[Span]:
        rows = self._reads.execute(_SINCE, (self._newest, self._location_id)).fetchall()
        self._newest = max([self._newest, *(file_id for file_id, _, _ in rows)])
        return [Span(first, last) for _, first, last in rows]


@contextmanager
def listening(dsn: str, location_id: int) -> Iterator[Listener]:
    """A listener for as long as the block lasts; what is committed from now on is heard."""
    with psycopg.connect(dsn, autocommit=True) as hears, psycopg.connect(dsn, autocommit=True) as reads:
        yield Listener(hears, reads, location_id)
