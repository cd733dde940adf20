"""The session on which a node lives: lock, lease and beat. Lost, it is replaced while the jobs go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from ampd_ray.errors import DatabaseUnavailable
from ampd_ray.metadb.connection import Connection, Database, bounded

P = ParamSpec("P")
T = TypeVar("T")

CALL_LIMIT: Final = timedelta(seconds=5)


class NodeSession:
    """One session at a time, on which each call is bounded, one after the other. One that gets no answer closes it."""

    def __init__(self, db: Database, node_id: str) -> None:
        self._db = db
        self._node_id = node_id
        self._conn: Connection | None = None
        self._one_call = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """False once it is lost."""
        return self._conn is not None and not self._conn.closed

    async def open(self) -> None:
        """Replace what there is by a new session; one attempt."""
        await self.close()
        self._conn = await self._db.connect_session()

    async def close(self) -> None:
        """End it, if there is one."""
        if self._conn is not None:
            conn, self._conn = self._conn, None
            await conn.close()

    async def call(
        self,
        limit: timedelta,
        verb: Callable[Concatenate[Connection, str, P], Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The result of ``verb`` for this node, or DatabaseUnavailable after ``limit``."""
        async with self._one_call:  # a transaction is nobody else's
            conn = self._conn
            if conn is None:
                raise DatabaseUnavailable("the node has no session to the metadata database")
            async with self._db.minded(conn):
                return await bounded(conn, verb(conn, self._node_id, *args, **kwargs), limit)
