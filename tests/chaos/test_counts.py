"""The counts at the end: what really happened, and nothing else."""

from __future__ import annotations

import json

import pytest

from tests.chaos.counts import Counts, quantile
from tests.chaos.plan import schedule


def test_what_did_not_fire_is_not_counted() -> None:
    counts, plan = Counts(), schedule(2)  # a peer claims, and dies of it; a writer is halted in the middle of a file
    assert {arm.text for arm in plan.arms} == {
        "takeover-claiming=kill@1",
        "mid-file=stop(6)@1",
        "task-returned=delay(1)@1",
    }
    fired = {"takeover-claiming": 1, "mid-file": 0, "task-returned": 1}
    counts.add(plan, {"kill driver": 1, "drain": 1, "pause writer": 0}, fired, 3.5)
    said = json.loads(json.dumps(counts.json(1.0)))
    assert (said["schedules"], said["kills"], said["pauses"]) == (1, 2, 0)
    assert said["injected"] == {"kill driver": 1, "drain": 1}
    assert {point: times for point, times in said["fired"].items() if times} == {
        "takeover-claiming": 1,
        "task-returned": 1,
    }
    assert (said["recovery_p50"], said["recovery_p99"]) == (3.5, 3.5)


@pytest.mark.parametrize(("values", "half", "most"), [([], None, None), ([3.0, 1.0, 2.0], 2.0, 3.0), ([7.0], 7.0, 7.0)])
def test_quantiles_are_values_that_were_seen(values: list[float], half: float | None, most: float | None) -> None:
    assert (quantile(values, 0.5), quantile(values, 0.99)) == (half, most)
