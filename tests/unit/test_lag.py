"""The guard of the rule that nothing heavy happens on a coordinator's event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from ampd_ray.node.counters import Counters
from ampd_ray.node.lag import LAG_WARN_SECS, watch_loop_lag


async def test_a_loop_that_stands_still_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    watching = asyncio.create_task(watch_loop_lag(counters))
    await asyncio.sleep(0)
    time.sleep(LAG_WARN_SECS + 0.1)  # noqa: ASYNC251 - the very fault that is watched for
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.02)
            if counters.loop_lag_secs >= LAG_WARN_SECS:
                break
    watching.cancel()
    assert "stood still" in caplog.text
