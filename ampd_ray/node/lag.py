"""How late the event loop runs: the guard of the rule that nothing heavy happens in a coordinator's process."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ampd_ray.node.counters import Counters

_log: Final = logging.getLogger(__name__)

LAG_WARN_SECS: Final = 0.25
_STEP_SECS: Final = 0.05
_STEPS: Final = 20  # one report a second at most


async def watch_loop_lag(counters: Counters) -> None:
    """Keep ``counters.loop_lag_secs`` at the worst delay of the last second, and warn above 250 ms. Never returns."""
    loop = asyncio.get_running_loop()
    while True:
        worst = 0.0
        for _ in range(_STEPS):
            before = loop.time()
            await asyncio.sleep(_STEP_SECS)
            worst = max(worst, loop.time() - before - _STEP_SECS)
        counters.loop_lag_secs = worst
        if worst >= LAG_WARN_SECS:
            _log.warning("the event loop stood still; heartbeats are at risk", extra={"secs": round(worst, 3)})
