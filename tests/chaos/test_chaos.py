"""A few schedules of chaos: real workers, faults of many kinds, and a stranger who finds nothing wrong."""

from __future__ import annotations

import json
import os

import pytest

from tests.chaos.run import run

# Five that between them arm fifteen failpoints, and kill, pause, drain, cut and restart.
SEEDS = (1, 2, 3, 4, 5)
pytestmark = pytest.mark.timeout(900)


def test_a_few_schedules_leave_everything_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    first, count = os.environ.get("AMPD_CHAOS_FIRST"), int(os.environ.get("AMPD_CHAOS_SEEDS", len(SEEDS)))
    seeds = range(int(first), int(first) + count) if first else SEEDS[:count]
    code = run(seeds)
    said = capsys.readouterr().out
    counts = json.loads(said.splitlines()[-1])
    assert (code, counts["violations"]) == (0, 0), said
    assert counts["schedules"] == len(seeds)
    assert counts["kills"] > 0
    assert counts["takeovers"] > 0
    assert sum(counts["fired"].values()) >= 3 * len(seeds)
    print(said)
