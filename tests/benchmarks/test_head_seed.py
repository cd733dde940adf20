"""A short seed of ``make bench-head``: each new block is committed once, and the record has the figures."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.following import Growing
from tests.benchmarks.head import measure

pytestmark = pytest.mark.usefixtures("chain_data")


def test_new_blocks_are_followed_and_jobs_start() -> None:
    blocks, jobs = 5, 2
    record = measure(Growing("light", blocks, every_ms=100, still_secs=0.5), files=[3, 30], jobs=jobs)
    assert [each["files"] for each in record["following"]] == [3, 30]
    for followed in record["following"]:
        assert 1 <= followed["blocks_per_commit"] <= blocks
        assert followed["idle_cpu_ms_per_s"] > 0
        assert "ray::CoordinatorActor.run" in followed["all_cpu_ms_per_block_by_process"]
        _are_sane(followed["appeared_to_notified_ms"])
        _are_sane(followed["seen_to_notified_ms"])
        assert followed["seen_to_notified_ms"]["max"] <= followed["appeared_to_notified_ms"]["max"]
    assert record["starting"]["jobs"] == jobs
    _are_sane(record["starting"]["scheduled_to_running_ms"])
    _are_sane(record["starting"]["notified_to_first_block_asked_ms"])
    assert record["latency_ratio"] > 0
    assert "cpu_ratio" in record


def _are_sane(ms: dict[str, Any]) -> None:
    assert list(ms) == ["p50", "p90", "p99", "max"]
    assert 0 < ms["p50"] <= ms["p90"] <= ms["p99"] <= ms["max"] < 30_000
