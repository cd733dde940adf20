"""A short seed of ``make bench``: it runs, and its record has the figures that history needs."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.backfill import measure


def test_the_benchmark_runs_and_counts_every_process(chain_data: Path) -> None:
    record = measure(blocks=60, rounds=1)
    assert record["ours"]["blocks_per_s"] > 0
    assert record["ours"]["cpu_s_per_1k"] > 0
    names = " ".join(record["by_process_mb"])
    for part in ("ExtractorActor", "WriterActor", "CoordinatorActor", "raylet", "postgres"):
        assert part in names, names
