"""Work that is started ahead of its turn, a bounded number of pieces at a time, and handed out in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Piece = Callable[[], Coroutine[Any, Any, T]]
GoOn = Callable[[], bool]


class Window:
    """Shared by all who fetch from one source: at most ``width()`` pieces are ``under_way``, or wait to be taken.

    One after another starts all of its pieces before the next may start any: what is needed first is asked for first,
    and those who come later do not share out the room among them.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        self._width = width
        self._turn = asyncio.Lock()
        self.under_way = 0
        self._left = asyncio.Event()

    async def in_order(self, pieces: Sequence[Piece[T]], go_on: GoOn | None = None) -> AsyncGenerator[T]:
        """The result of each piece. The first that raises ends it; close the iterator to cancel what is under way.

        Once ``go_on`` says False no piece is started any more: the results end with the last one that was.
        """
        started: asyncio.Queue[asyncio.Task[T] | None] = asyncio.Queue()
        starting = asyncio.create_task(self._start(pieces, started, go_on))
        try:
            while (task := await started.get()) is not None:
                try:
                    yield await task
                finally:
                    del task  # and what it brought
                    self._leave()
        finally:
            starting.cancel()  # it starts nothing more from here on
            rest = [started.get_nowait() for _ in range(started.qsize())]
            under_way = [task for task in rest if task is not None]
            for task in under_way:
                task.cancel()
                self._leave()
            await asyncio.gather(
                starting, *under_way, return_exceptions=True
            )  # last, as a cancellation may end it early

    async def _start(
        self, pieces: Sequence[Piece[T]], started: asyncio.Queue[asyncio.Task[T] | None], go_on: GoOn | None
    ) -> None:
        async with self._turn:
            for piece in pieces:
                while self.under_way >= max(1, self._width()):
                    self._left.clear()
                    await self._left.wait()
                if go_on is not None and not go_on():
                    break
                task = asyncio.create_task(piece())
                self.under_way += 1
                started.put_nowait(task)
        started.put_nowait(None)

    def _leave(self) -> None:
        self.under_way -= 1
        self._left.set()
