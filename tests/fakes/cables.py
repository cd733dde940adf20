"""The cable between one node and its database, which a test can cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.fakes.postgres_proxy import PostgresProxy, proxied


@dataclass
class Cable:
    """A node's connection to its database, which can be cut and mended."""

    proxy: PostgresProxy
    url: str

    def __post_init__(self) -> None:
        self._connect = self.proxy.connect

    async def cut(self) -> None:
        """Reset every connection, and let none be made."""

        async def refuse() -> Any:
            raise OSError("the network is down")

        self.proxy.connect = refuse
        await self.proxy.cut()

    def mend(self) -> None:
        self.proxy.connect = self._connect


@asynccontextmanager
async def cable(url: str) -> AsyncIterator[Cable]:
    """A cable to the database of ``url``; connect to its own ``url``."""
    async with proxied(url) as (proxy, through):
        yield Cable(proxy, through)
