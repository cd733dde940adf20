"""The choice of a schedule: the same for the same seed, and fair over many."""

from __future__ import annotations

from collections import Counter

from ampd_ray.failpoints import POINTS, parse
from tests.chaos.faults import KINDS
from tests.chaos.plan import ACTIONS, DEADLY, OfJob, Outside, schedule

HUNDRED = [schedule(seed) for seed in range(1, 101)]


def test_a_seed_is_a_schedule() -> None:
    assert [schedule(seed) for seed in range(1, 101)] == HUNDRED
    assert len({str(plan) for plan in HUNDRED}) == len(HUNDRED)


def test_a_hundred_schedules_bring_everything_often_enough() -> None:
    points = Counter(arm.point for plan in HUNDRED for arm in plan.arms)
    assert set(points) == set(POINTS)
    assert min(points.values()) >= 16
    assert {(arm.point, arm.action) for plan in HUNDRED for arm in plan.arms} >= {
        (p, a) for p in POINTS for a in ACTIONS
    }
    kinds = Counter(fault.kind for plan in HUNDRED for fault in plan.faults)
    assert set(kinds) == set(Outside) == set(KINDS)
    assert min(kinds.values()) >= 6
    of_job = Counter(plan.of_job for plan in HUNDRED)
    assert set(of_job) == set(OfJob)
    assert min(of_job.values()) >= 10
    assert sum(plan.reorg > 0 for plan in HUNDRED) >= 20


def test_what_is_armed_can_be_reached() -> None:
    for plan in HUNDRED:
        armed, kinds = {arm.point for arm in plan.arms}, {fault.kind for fault in plan.faults}
        assert len(parse("; ".join(arm.text for arm in plan.arms))) == len(armed) == len(plan.arms)
        assert "draining" not in armed or Outside.DRAIN in kinds
        assert "job-claimed" not in armed or plan.of_job is OfJob.STOP_RESUME
        assert "sweep-collected" not in armed or plan.reorg
        assert not armed & {"takeover-claiming", "takeover-claimed"} or kinds & {*DEADLY, Outside.DRAIN}
