"""A provider that says of its head what a test wants to hear."""

from __future__ import annotations

from typing import Any

from ampd_ray.errors import BlockUnavailable
from ampd_ray.materialize.heads import Head, Tag
from ampd_ray.providers.calls import Head as SomeHead


def head(number: int, hash_: bytes) -> Head:
    return SomeHead(number, hash_, bytes(32), 1_700_000_000 + number)


class ScriptedHeads:
    """Plays ``script``, heads and errors, one each poll; then it asks ``source``, or repeats the last one.

    Without a source nothing is final.
    """

    chain: int | None = None

    def __init__(self, *script: Head | Exception, source: Any = None) -> None:
        self.polls = 0
        self.script = list(script)
        self._source = source

    async def start(self) -> None:
        if self._source is not None:
            await self._source.start()

    async def head(self, tag: Tag) -> Head:
        if tag == "finalized" and self._source is None:
            raise BlockUnavailable("nothing is final")
        self.polls += 1
        if self._source is not None and not self.script:
            found: Head = await self._source.head(tag)
            return found
        says = self.script.pop(0) if len(self.script) > 1 or self._source is not None else self.script[0]
        if isinstance(says, Exception):
            raise says
        return says

    async def close(self) -> None:
        if self._source is not None:
            await self._source.close()
