"""An event loop in a thread of its own, so that plain calls work anywhere, a running notebook included."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from ampd_ray.errors import AmpdError, SessionClosed, Unexpected

logger = logging.getLogger(__name__)

T = TypeVar("T")
UNWIND_SECS = 5.0


class LoopThread:
    """Runs coroutines for callers that have no loop, or must not use theirs.

    All that is handed to it raises ``SessionClosed`` once it is closed, and in a process that was forked off: threads
    do not go along.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ampd-ray-client", daemon=True)
        self._thread.start()
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._running: set[Future[Any]] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        """True if it takes nothing more from this process."""
        return self._closed or os.getpid() != self._process

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; Ctrl-C while waiting cancels it."""
        __tracebackhide__ = True  # of IPython, as in all that only passes on what it is given
        future = self._submit(work)
        try:
            return future.result()
        except AmpdError as error:
            raise _without_frames(error)  # noqa: B904 - it is the same error
        except CancelledError:
            if self.closed:
                raise self._no_more() from None
            raise
        except BaseException:
            future.cancel()
            raise

    async def awaited(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work`` for a caller on another loop, whose cancellation cancels it."""
        __tracebackhide__ = True
        future = asyncio.wrap_future(self._submit(work))
        try:
            return await future
        except AmpdError as error:
            raise _without_frames(error)  # noqa: B904 - it is the same error
        except asyncio.CancelledError:
            if self.closed and future.cancelled() and not _cancelled():
                raise self._no_more() from None
            raise

    def close(self, farewell: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Cancel what runs, then run ``farewell`` and end the thread; safe to call twice."""
        if self.closed:  # before the lock: in a forked process, whoever had it is not there to give it back
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            running = list(self._running)
        for future in running:
            future.cancel()
        try:
            asyncio.run_coroutine_threadsafe(_end(farewell), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        future = None if self.closed else self._submitted(work)
        if future is None:
            work.close()
            raise self._no_more()
        future.add_done_callback(self._running.discard)
        return future

    def _submitted(self, work: Coroutine[Any, Any, T]) -> Future[T] | None:
        with self._lock:
            if self._closed:
                return None
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._running.add(future)
        return future

    def _no_more(self) -> SessionClosed:
        if os.getpid() != self._process:
            return SessionClosed(
                f"this session belongs to process {self._process}, which forked this one: make another one here, with "
                "amp.connect, amp.inspect or amp.local"
            )
        return SessionClosed("this session is closed: make another one, with amp.connect, amp.inspect or amp.local")


def _without_frames(error: AmpdError) -> AmpdError:
    """An expected error says what it is; the frames of our thread, and its causes', are for a log at debug.

    A bug in the guise of one keeps them.
    """
    logger.debug("a call failed", exc_info=error)
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    if not any(isinstance(each, Unexpected) for each in chain):
        for each in chain:
            each.__traceback__ = None
    return error


async def _end(farewell: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
    """Let what was cancelled give back what it holds, before those go from whom it has it."""
    await asyncio.sleep(0)  # each of them hears of it first
    if ending := {task for task in asyncio.all_tasks() if task.cancelling()}:
        await asyncio.wait(ending, timeout=UNWIND_SECS)
    if farewell is not None:
        await farewell()


def _cancelled() -> bool:
    """True if somebody asked the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
