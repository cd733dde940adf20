"""Which Ray node gets the coordinator, how many actors there may be, and where those go."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError
from ray._private.label_utils import validate_label_selector

from ampd_ray.actors.placement import Placement
from ampd_ray.config import AmpdRay
from ampd_ray.node.places import RayNode, cpus, cpus_for_writers, home
from ampd_ray.node.sizes import Sizes

HEAD = RayNode("0f" * 28, "10.0.0.1", 0.0, stable=False)
STABLE = [RayNode(f"{number}a" * 28, f"10.0.1.{number}", 8.0, stable=True) for number in range(3)]
SPOT = [RayNode(f"{number}b" * 28, f"10.0.2.{number}", 8.0, stable=False) for number in range(5)]
CLUSTER = [HEAD, *STABLE, *SPOT]


def ours(**keys: Any) -> AmpdRay:
    return AmpdRay(failover_group="test", **keys)


def test_the_coordinator_is_beside_its_driver_where_that_is_as_stable_as_any() -> None:
    assert home(CLUSTER, STABLE[1].id, "worker-1") == STABLE[1].id
    assert home([HEAD, *SPOT], SPOT[2].id, "worker-1") == SPOT[2].id


def test_the_coordinators_of_drivers_that_are_elsewhere_spread_over_the_stable_ray_nodes() -> None:
    homes = {node_id: home(CLUSTER, HEAD.id, node_id) for node_id in (f"worker-{number}" for number in range(60))}
    assert min(Counter(homes.values())[node.id] for node in STABLE) > 10
    assert homes == {node_id: home(CLUSTER[::-1], SPOT[0].id, node_id) for node_id in homes}


def test_the_first_of_each_kind_needs_no_room() -> None:
    place = Placement.of(CLUSTER, STABLE[0].id, ours(extractor_resources={"extract": 1.0}, writer_cpus=4.0))
    assert place.beside["num_cpus"] == 0
    assert place.beside["scheduling_strategy"].node_id == STABLE[0].id
    assert place.beside["scheduling_strategy"].soft is False
    assert place.beside.keys() == {"num_cpus", "scheduling_strategy"}


def test_writers_are_on_stable_ray_nodes_or_beside_the_coordinator() -> None:
    place = Placement.of(CLUSTER, STABLE[0].id, ours())
    assert place.writer == {"num_cpus": 1.0, "resources": {"amp_node": 0.001}}
    alone = Placement.of([HEAD, *SPOT], SPOT[0].id, ours(writer_cpus=0.5))
    assert alone.writer["num_cpus"] == 0.5
    assert alone.writer["scheduling_strategy"].node_id == SPOT[0].id


def test_extractors_are_wherever_a_cpu_is_or_where_the_configuration_wants_them() -> None:
    assert Placement.of(CLUSTER, STABLE[0].id, ours()).extractor == {"num_cpus": 1.0}
    wanted = ours(
        extractor_cpus=0.5,
        extractor_memory_bytes=1 << 30,
        extractor_resources={"extract": 0.01},
        extractor_labels={"ray.io/market-type": "spot"},
    )
    assert Placement.of(CLUSTER, STABLE[0].id, wanted).extractor == {
        "num_cpus": 0.5,
        "memory": 1 << 30,
        "resources": {"extract": 0.01},
        "label_selector": {"ray.io/market-type": "spot"},
    }


@pytest.mark.parametrize(
    ("cpus", "sizes"), {0: (1, 1), 1: (1, 1), 2: (1, 1), 4: (2, 1), 8: (5, 2), 64: (47, 16)}.items()
)
def test_sizes_follow_the_cpus_of_the_cluster(cpus: int, sizes: tuple[int, int]) -> None:
    assert Sizes.of(cpus, cpus, ours()) == Sizes(*sizes)


def test_writers_count_the_cpus_of_where_they_may_be() -> None:
    assert cpus(CLUSTER) == 64
    assert cpus_for_writers(CLUSTER, STABLE[0].id) == 24
    assert cpus_for_writers([HEAD, *SPOT], SPOT[0].id) == 8
    assert cpus_for_writers([HEAD, *SPOT], HEAD.id) == 0


def test_there_are_no_more_writers_than_there_is_room_for() -> None:
    assert Sizes.of(64, 24, ours()) == Sizes(extractors=47, writers=16)
    assert Sizes.of(64, 24, ours(writer_cpus=2.0)) == Sizes(extractors=39, writers=12)
    assert Sizes.of(40, 8, ours()) == Sizes(extractors=31, writers=8)
    assert Sizes.of(40, 0, ours()) == Sizes(extractors=38, writers=1)
    assert Sizes.of(64, 24, ours(writers=3, extractor_cpus=0.5)) == Sizes(extractors=120, writers=3)
    assert Sizes.of(64, 24, ours(writers=3, extractors=7)) == Sizes(extractors=7, writers=3)


@pytest.mark.parametrize(
    ("told", "most", "fewest"),
    [({}, 64, 1), ({"extractors": 7}, 7, 1), ({"min_extractors": 100}, 100, 100), ({"min_extractors": 0}, 64, 0)],
)
def test_in_a_cluster_there_may_be_more_than_it_has_room_for(told: dict[str, int], most: int, fewest: int) -> None:
    elastic = Sizes.of(8, 8, ours(**told)).elastic(ours(**told))
    assert (elastic.extractors, elastic.fewest) == (most, fewest)


@pytest.mark.parametrize(
    "wanted", ["spot", "!spot", "in(spot, on-demand)", "!in(a,b)", "", "-spot", "in()", "spot market", "x" * 64]
)
@pytest.mark.parametrize("label", ["market", "ray.io/market-type", "a b", "", "-a"])
def test_labels_are_those_that_ray_takes(label: str, wanted: str) -> None:
    """Ray would refuse them only when an extractor is made, again and again."""
    refused = validate_label_selector({label: wanted})
    if refused is None:
        ours(extractor_labels={label: wanted})
    else:
        with pytest.raises(ValidationError, match="expected labels such as"):
            ours(extractor_labels={label: wanted})
