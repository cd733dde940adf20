"""Work that is started ahead of its turn, a bounded number of pieces at a time, and handed out in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Piece = Callable[[], Coroutine[Any, Any, T]]


class Window:
    """Shared by all who fetch from one source: at most ``width()`` pieces are under way or wait to be taken.

    One after another starts all of its pieces before the next may start any: what is needed first is asked for first,
    and those who come later do not share out the room among them.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        self._width = width
        self._turn = asyncio.Lock()
        self._under_way = 0
        self._left = asyncio.Event()

    @property
    def full(self) -> bool:
        """True while no more may be started."""
        return self._under_way >= max(1, self._width())

    async def in_order(self, pieces: Sequence[Piece[T]]) -> AsyncGenerator[T]:
        """The result of each piece. The first that raises ends it; close the iterator to cancel what is under way."""
        started: asyncio.Queue[asyncio.Task[T]] = asyncio.Queue()
        starting = asyncio.create_task(self._start(pieces, started))
        try:
            for _ in pieces:
                task = await started.get()
                try:
                    yield await task
                finally:
                    del task  # and what it brought
                    self._leave()
        finally:
            starting.cancel()  # it starts nothing more from here on
            rest = [started.get_nowait() for _ in range(started.qsize())]
            for task in rest:
                task.cancel()
                self._leave()
            await asyncio.gather(starting, *rest, return_exceptions=True)  # last, as a cancellation may end it early

    async def _start(self, pieces: Sequence[Piece[T]], started: asyncio.Queue[asyncio.Task[T]]) -> None:
        async with self._turn:
            for piece in pieces:
                while self.full:
                    self._left.clear()
                    await self._left.wait()
                task = asyncio.create_task(piece())
                self._under_way += 1
                started.put_nowait(task)

    def _leave(self) -> None:
        self._under_way -= 1
        self._left.set()
