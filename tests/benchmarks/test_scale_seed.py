"""A short seed of ``make bench-scale``: each part runs, its record has the figures, and a segment costs no more SQL."""

from __future__ import annotations

import pytest

from tests.benchmarks import commits, many_jobs, scale, statements

pytestmark = [pytest.mark.usefixtures("chain_data"), pytest.mark.timeout(300)]

STATEMENTS_A_SEGMENT = 34  # of three tables; counted, not timed


def test_more_blocks_cost_more_but_not_each() -> None:
    found = scale.grown([200, 2_000], "tiny")
    assert found["2000"]["json_bytes_a_block"] == pytest.approx(found["200"]["json_bytes_a_block"], rel=0.05)
    assert 0 < found["worker_cpu_s_per_1k_ratio"] < 1.5  # a small one bears what each costs once
    for part in ("client", "Coordinator", "Extractor", "Writer"):
        assert found["2000"]["cpu_s_per_1k_of"][part] > 0, part


def test_an_environment_has_as_many_extractors_as_it_is_told() -> None:
    found = scale.widened([1], 200, "tiny")  # not the two of a small machine
    assert found["1"]["blocks_per_s"] > 0


def test_many_jobs_complete_on_a_node_that_goes_on_beating() -> None:
    record = many_jobs.measure(jobs=6, blocks=50)
    assert record["completed"] == 6
    assert 0 < record["longest_gap_secs"] < 4  # five, and it would look dead
    assert record["peak_rss_mb"] > record["idle_rss_mb"] > 0


def test_a_segment_costs_no_more_statements_than_it_did() -> None:
    record = statements.measure((80, 400), idle_secs=2.0)
    few, more = record["segments"]
    assert more >= few + 3
    assert 0 < record["statements_a_segment"] <= 1.5 * STATEMENTS_A_SEGMENT
    assert len(record["top"]) == statements.TOP
    assert 0 < record["idle_second"]["statements"] < 15
    assert record["waiting_second"]["statements"] < 15 + 6 * statements.WAITING


def test_large_numbers_of_blocks_are_small_ones_beside_a_small_number() -> None:
    assert scale.sizes_of("light", [1_000, 20_000, 200_000]) == {"light": [1_000, 20_000], "tiny": [1_000, 200_000]}
    assert scale.sizes_of("tiny", [1_000, 200_000]) == {"tiny": [1_000, 200_000]}
    assert scale.sizes_of("light", [200_000]) == {"tiny": [200_000]}


def test_postgres_takes_segments() -> None:
    found = commits.measure(20, committers=(1, 2))
    assert all(found[many]["segments_per_s"] > 0 for many in ("1", "2"))
    assert found["2"]["postgres_cpu_ms"] > 0
