"""A short seed of the object store benchmark: a fifth of the requests spoilt, and each file is there once."""

from __future__ import annotations

from tests.benchmarks.objects import FAULTS, measure


def test_each_file_is_there_once_whatever_becomes_of_requests() -> None:
    record = measure(100, 0.2, server="moto", large_every=50)
    assert [record[wrong] for wrong in ("missing", "duplicates", "wrong", "leaked_uploads")] == [0, 0, 0, 0]
    assert (record["files"], record["large"], record["rivals"]) == (100, 2, {"refused": 2})
    assert record["faults"].keys() == {fault.name.lower() for fault in FAULTS}
    assert sum(record["faults"].values()) > 0.1 * record["requests"]
