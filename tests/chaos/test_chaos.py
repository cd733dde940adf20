"""A few schedules of chaos: real workers, faults of many kinds, and a stranger who finds nothing wrong."""

from __future__ import annotations

import json

import pytest

from tests.chaos.run import run

# Between them they arm thirteen failpoints; they kill, drain and halt workers, restart the server, replace blocks, hold
# back what passes on a line and cut the answer to a COMMIT.
SEEDS = (8, 12, 15, 17, 20)
pytestmark = pytest.mark.timeout(900)


def test_a_few_schedules_leave_everything_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(SEEDS)
    said = capsys.readouterr().out
    counts = json.loads(said.splitlines()[-1])
    assert (code, counts["violations"]) == (0, 0), said
    assert counts["schedules"] == len(SEEDS)
    assert counts["kills"] >= 5
    assert counts["pauses"] >= 4
    assert counts["takeovers"] >= 3
    assert sum(counts["fired"].values()) >= 3 * len(SEEDS)
    print(said)
