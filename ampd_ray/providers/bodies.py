"""How much an answer may take: bounds that hold whatever a provider sends (``spec/data.md`` 2.5).

Small bodies are read side by side. A large one waits until no other large one of its source is being read or parsed,
so that what a source reads and parses stays below ``MAX_IN_FLIGHT * LARGE_BYTES + MAX_BODY_BYTES + MAX_PARSED_BYTES``.
What a fetch keeps, blocks as text or parsed, is not bounded here, but by how many it asks for ahead (``evm_rpc.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ampd_ray.errors import ResponseTooLarge
from ampd_ray.providers.failures import Failed, Failure

LARGE_BYTES = 4 * 1024 * 1024
MAX_BODY_BYTES = 128 * 1024 * 1024  # after decompression; the fullest blocks of today take some 20 MiB
MAX_PARSED_BYTES = 512 * 1024 * 1024  # a block's values take about twice its JSON

_OBJECT_BYTES, _VALUE_BYTES = 256, 64  # what an object and any other value take at most once they are parsed


class Bodies:
    """The bodies that one source is reading."""

    def __init__(self) -> None:
        self._large = asyncio.Lock()

    @asynccontextmanager
    async def gathered(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """All of ``chunks`` as one body, to be parsed before the context ends. Raises ``Failed`` for too much."""
        kept: list[bytes] = []
        size = 0
        async with AsyncExitStack() as stack:
            async for chunk in chunks:
                if size <= LARGE_BYTES < size + len(chunk):
                    await stack.enter_async_context(self._large)
                size += len(chunk)
                check_size(size)
                kept.append(chunk)
            body = kept[0] if len(kept) == 1 else b"".join(kept)
            kept.clear()
            yield body


def check_size(size: int) -> None:
    """Raise ``Failed`` if a body of ``size`` bytes is too large."""
    if size > MAX_BODY_BYTES:
        raise Failed(Failure(ResponseTooLarge, f"answered more than {MAX_BODY_BYTES >> 20} MiB"))


def check_weight(body: bytes | bytearray) -> None:
    """Raise ``Failed`` if ``body`` would take far more once parsed: ``[{},{},…]`` grows eightyfold."""
    if len(body) > LARGE_BYTES:
        check_values(len(body), body.count(b"{"), body.count(b","))


def check_values(size: int, objects: int, others: int = 0) -> None:
    """As :func:`check_weight`, of a body of ``size`` bytes with so many objects and other values."""
    if size + _OBJECT_BYTES * objects + _VALUE_BYTES * others > MAX_PARSED_BYTES:
        values = f"{size >> 20} MiB of values that would take more than {MAX_PARSED_BYTES >> 20} MiB of memory"
        raise Failed(Failure(ResponseTooLarge, f"answered {values}"))
