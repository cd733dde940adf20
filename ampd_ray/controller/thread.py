"""The retry loop in a thread of its own, for a process whose main thread waits for Ray."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import Final, Self

from ampd_ray.config import Settings
from ampd_ray.controller.service import TICK, RetryLoop
from ampd_ray.errors import AmpdError
from ampd_ray.metadb.connection import Database

_log: Final = logging.getLogger(__name__)


class RetryThread:
    """A retry loop on a loop and a database pool of its own, beside a program that has other things to do.

    Use it as a context manager. A database that is away is waited for.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = threading.Thread(target=self._run, name="retry-loop", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it ended by itself in this very moment
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._ready.set()
        db = Database(self._settings.metadata_db.dsn(), application_name="ampd-ray/controller", pool_size=2)
        try:
            await _open_patiently(db)
            await RetryLoop(db, self._settings).run()
        finally:
            await db.close()


async def _open_patiently(db: Database) -> None:
    while True:
        try:
            return await db.open()
        except AmpdError as error:
            _log.warning("no retries for now", extra={"error": error})
        await asyncio.sleep(TICK.total_seconds())
