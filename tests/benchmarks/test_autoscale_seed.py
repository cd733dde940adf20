"""A short seed of ``make bench-autoscale``: a cluster grows while that helps, shrinks after it, and loses nothing."""

from __future__ import annotations

import pytest

from tests.benchmarks import autoscale
from tests.fakes.autoscaling import can_be_apart

pytestmark = [pytest.mark.usefixtures("chain_data"), pytest.mark.timeout(300)]

BLOCKS = 5_000


@pytest.mark.skipif(not can_be_apart(), reason="it takes root, and namespaces")
def test_one_ray_node_becomes_three_and_one_again() -> None:
    record = autoscale.measure(
        ["--most", "2", "--idle-secs", "3", "--blocks", str(BLOCKS), "--latency-ms", "500"],
    )
    assert (record["status"], record["exit_code"]) == ("COMPLETED", 0)
    assert (record["most_wanted"], record["most_nodes"], record["most_extractors"]) == (3, 3, 3)
    assert (record["nodes_at_last"], record["extractors_at_last"]) == (1, 1)
    assert record["shrunk_after_secs"] < autoscale.SHRUNK_WITHIN_SECS
    assert set(record["lost"].values()) == {0}
    assert record["fetched"] == BLOCKS, "each block once: nothing that was under way was let go"
    assert record["faults"] == []
