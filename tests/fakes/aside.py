"""Asyncio servers for tests that are not asyncio: each on a loop and thread of its own."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def aside(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """What ``make``, called on the other loop, yields, open until the block ends."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opened: list[AbstractAsyncContextManager[T]] = []

    async def enter() -> T:
        opened.append(make())
        return await opened[0].__aenter__()

    async def leave() -> None:
        await opened[0].__aexit__(None, None, None)

    try:
        yield asyncio.run_coroutine_threadsafe(enter(), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(leave(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
