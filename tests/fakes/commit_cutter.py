"""A proxy before Postgres that ends sessions in the moment of their COMMIT."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from enum import Enum
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.fakes.postgres_proxy import PostgresProxy


class Moment(Enum):
    """When a session is cut; in the last two cases the server has committed."""

    BEFORE = "before COMMIT is sent"
    UNDER_WAY = "COMMIT does not arrive"
    UNANSWERED = "nobody hears of it"
    HALF_ANSWERED = "the answer ends in its middle"


class CommitCutter(PostgresProxy):
    """Cuts those transactions that hold the statement ``marker``, one for each moment of ``plan``; ``fired`` counts."""

    def __init__(self, connect: Any, marker: bytes) -> None:
        super().__init__(connect)
        self.plan: list[Moment] = []
        self.fired: Counter[Moment] = Counter()
        self._marker = marker
        self._marked: set[Any] = set()
        self._committing: dict[Any, Moment] = {}

    async def _pump(
        self, link: Any, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if direction == "requests":
                    if self._cuts(link, data):
                        break
                elif moment := self._committing.pop(link, None):  # the server has answered
                    if moment is Moment.HALF_ANSWERED:
                        writer.write(data[: len(data) // 2])
                        await writer.drain()
                    break
                writer.write(data)
                await writer.drain()
        link.abort()

    def _cuts(self, link: Any, data: bytes) -> bool:
        """Whether a session ends with this request; the answer may be its end as well."""
        if self._marker in data:
            self._marked.add(link)
            return bool(self.plan) and self.plan[0] is Moment.BEFORE and self._fire() is Moment.BEFORE
        if b"COMMIT" not in data or link not in self._marked:
            return False
        self._marked.discard(link)
        if not self.plan or self.plan[0] is Moment.BEFORE:
            return False
        moment = self._fire()
        if moment is not Moment.UNDER_WAY:
            self._committing[link] = moment
        return moment is Moment.UNDER_WAY

    def _fire(self) -> Moment:
        moment = self.plan.pop(0)
        self.fired[moment] += 1
        return moment


@contextlib.asynccontextmanager
async def commit_cutter(url: str, marker: bytes) -> Any:
    """A cutter before the server of ``url``, and the conninfo that goes through it."""
    info = conninfo_to_dict(url)
    host, port = str(info.get("host") or "localhost"), int(info.get("port") or 5432)

    def connect() -> Any:
        if host.startswith("/"):
            return asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return asyncio.open_connection(host, port)

    async with CommitCutter(connect, marker) as cutter:
        yield cutter, make_conninfo(url, host="127.0.0.1", port=cutter.port, sslmode="disable")
