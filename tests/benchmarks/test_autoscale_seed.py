"""A short seed of ``make bench-autoscale``: a cluster grows while that helps, shrinks after it, and loses nothing."""

from __future__ import annotations

import pytest

from tests.benchmarks import autoscale
from tests.fakes.autoscaling import can_be_apart

pytestmark = [pytest.mark.usefixtures("chain_data"), pytest.mark.timeout(300)]

BLOCKS = 5_000


@pytest.mark.skipif(not can_be_apart(), reason="it takes root, and namespaces")
def test_a_ray_node_comes_while_it_helps_and_goes_again() -> None:
    options = {"--most": 1, "--idle-secs": 8, "--blocks": BLOCKS, "--latency-ms": 400}
    record = autoscale.measure([str(part) for option in options.items() for part in option])
    assert (record["status"], record["exit_code"]) == ("COMPLETED", 0)
    assert (record["most_wanted"], record["most_nodes"], record["most_extractors"]) == (2, 2, 2)
    assert (record["nodes_at_last"], record["extractors_at_last"]) == (1, 1)
    assert record["shrunk_after_secs"] < autoscale.SHRUNK_WITHIN_SECS
    # A Ray node that the autoscaler had given up for idle may take along what came to it at that moment.
    assert record["fetched"] >= BLOCKS
    assert record["fetched"] == BLOCKS or any(record["lost"].values()), "nothing that was under way was let go"
    assert record["faults"] == []
