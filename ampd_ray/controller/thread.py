"""The retry loop in a thread of its own, for a process whose main thread waits for Ray."""

from __future__ import annotations

import asyncio
import logging
import threading
from types import TracebackType

from ampd_ray.config import Settings
from ampd_ray.controller.service import RetryLoop
from ampd_ray.metadb.connection import Database

logger = logging.getLogger(__name__)


class RetryThread:
    """Runs the loop between ``__enter__`` and ``__exit__``."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._main, name="retry-loop", daemon=True)

    def __enter__(self) -> RetryThread:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join(timeout=10.0)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _main(self) -> None:
        self._task = self._loop.create_task(self._run())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            logger.debug("the retry loop ends")
        except Exception:
            logger.exception("the retry loop failed; failed jobs are not tried again until the next start")
        finally:
            self._loop.close()

    async def _run(self) -> None:
        db = Database(self._settings.metadata_db.dsn(), application_name="ampd-ray/retry-loop", pool_size=2)
        await db.open()
        try:
            await RetryLoop(db, self._settings).run()
        finally:
            await db.close()
