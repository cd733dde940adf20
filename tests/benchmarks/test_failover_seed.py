"""A short seed of the figures of fail-over: each runs, and nothing happens that never may."""

from __future__ import annotations

import pytest

from tests.benchmarks import pairs, sigterm, takeover
from tests.servers import Server

pytestmark = pytest.mark.timeout(300)


def test_a_job_moves_when_its_machine_or_its_driver_dies(embedded: Server) -> None:
    record = takeover.measure(embedded, kills=2)
    assert record["kills"] == 2
    assert record["reasons"].keys() == {"machine", "driver"}
    assert {reason for found in record["reasons"].values() for reason in found} <= {"dead", "released"}
    assert record["committed"] > 0
    assert record["committed_again"] == 0


def test_what_is_open_is_committed_when_a_worker_is_asked_to_end(embedded: Server) -> None:
    record = sigterm.measure(embedded, runs=1)
    assert (record["runs"], record["wrong"]) == (1, [])
    assert record["committed_min"] > 0


def test_of_two_with_one_node_id_one_survives(embedded: Server) -> None:
    record = pairs.measure(embedded, runs=1)
    assert (record["pairs"], record["one_survives"], record["wrong"]) == (1, 1, [])
