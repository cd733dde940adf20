"""A proxy before Postgres that ends sessions in the moment of their COMMIT."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.fakes.postgres_proxy import PostgresProxy


class CommitCutter(PostgresProxy):
    """Cuts those transactions that hold the statement ``marker``, ``times`` of them; ``fired`` counts.

    ``answer_lost``: the server commits, but nobody hears of it; else COMMIT never arrives.
    """

    def __init__(self, connect: Any, marker: bytes) -> None:
        super().__init__(connect)
        self.times = 0
        self.answer_lost = True
        self.fired = 0
        self._marker = marker
        self._marked: set[Any] = set()
        self._committing: set[Any] = set()

    async def _pump(
        self, link: Any, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if direction == "requests" and self._is_due(link, data):
                    self.times -= 1
                    self.fired += 1
                    if not self.answer_lost:
                        break
                    self._committing.add(link)
                elif direction == "answers" and link in self._committing:
                    break  # the server has answered: the transaction is committed
                writer.write(data)
                await writer.drain()
        link.abort()

    def _is_due(self, link: Any, data: bytes) -> bool:
        if self._marker in data:
            self._marked.add(link)
        if b"COMMIT" not in data or link not in self._marked:
            return False
        self._marked.discard(link)
        return self.times > 0


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
