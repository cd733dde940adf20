"""A worker's Ray node lost on a cluster, with notice, and the plan of many more (``make chaos-nodes``)."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.chaos.losses.plan import OFTEN, ROUND, STAGES, Loss, Step, steps
from tests.chaos.losses.run import run

pytestmark = pytest.mark.timeout(400)


def test_ten_minutes_lose_a_node_amid_each_stage_and_each_kind_of_node_often() -> None:
    for seed in range(1, 20):
        planned = steps(seed, 30)
        assert {step.stage for step in planned if step.stage} == set(STAGES)
        assert Counter(step.loss for step in planned) == {loss: 5 * ROUND.count(loss) for loss in Loss}
        assert all(step.hit == 1 for step in planned if step.stage not in OFTEN)
        assert planned == steps(seed, 30)


def test_nothing_is_lost_with_a_node_that_gave_notice_and_at_most_a_task_is_done_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run([Step(0, Loss.WORKER_NOTICE)], 0.0)
    said = capsys.readouterr().out
    told = json.loads(said.splitlines()[-1])
    assert (code, told["violations"], told["losses"]) == (0, 0, 1), said
    assert told["tasks_again_with_notice"] <= 1.0, said
    print(said)
