"""A short seed of the restarts benchmark: it runs, its record has the figures, and they are not far off."""

from __future__ import annotations

from tests.benchmarks.restarts import measure


async def test_a_job_goes_on_soon_after_each_restart() -> None:
    record = await measure(times=2)
    assert (record["restarts"], record["job_starts"], record["violations"]) == (2, 1, 0)
    assert 0 < record["resumed_p50_s"] <= record["resumed_max_s"] < 5
