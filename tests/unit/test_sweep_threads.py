"""Sweeps beside all else that a node does."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from ampd_ray.materialize.sweep import Broom
from ampd_ray.materialize.types import Location


class Hanging:
    """A store that answers nobody."""

    def __init__(self) -> None:
        self.answers = threading.Event()

    def clear_staging(self, location_id: int, below_epoch: int) -> None:
        self.answers.wait()
        raise KeyError


async def test_sweeps_of_a_store_that_hangs_leave_the_threads_of_the_loop_to_others() -> None:
    store: Any = Hanging()
    broom = Broom(db=None, store=store, collect=False)  # type: ignore[arg-type]
    sweeps = [asyncio.create_task(broom.sweep(Location("blocks", at, "_", 2))) for at in range(40)]
    try:
        await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 10) == "free"
        assert not any(sweep.done() for sweep in sweeps)
    finally:
        store.answers.set()
        assert all(isinstance(end, KeyError) for end in await asyncio.gather(*sweeps, return_exceptions=True))
