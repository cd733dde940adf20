"""Where the actors of a node go, as the options that Ray takes.

The coordinator and the writers stand on stable Ray nodes, those with the resource ``amp_node``, where the cluster has
any: a lost extractor costs a task, a lost writer all that its open files hold. Extractors stand wherever there is a
CPU, or where the configuration wants them.

The first writer and the first extractor stand beside the coordinator and ask for nothing, so that a node always has one
of each, however busy the cluster is. All others wait until there is room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ampd_ray.actors.draining import draining
from ampd_ray.config import AmpdRay
from ampd_ray.node.places import STABLE, RayNode

Options = dict[str, Any]

A_PLACE: Final = {STABLE: 0.001}  # of a stable Ray node's 1: it has room for as many as its CPUs serve


def at(ray_node: str) -> Options:
    """On this Ray node, whatever runs there. Hard: Ray takes a soft wish for an actor without CPUs as none."""
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(ray_node, soft=False)}


@dataclass(frozen=True)
class Placement:
    """Where the extractors and writers of one node go: the first of each ``beside`` its coordinator."""

    beside: Options
    extractor: Options
    writer: Options

    @classmethod
    def of(cls, nodes: Sequence[RayNode], home: str, ours: AmpdRay) -> Self:
        """As the configuration wants it, with the coordinator on the Ray node ``home``."""
        extractor: Options = {
            "num_cpus": ours.extractor_cpus,
            "memory": ours.extractor_memory_bytes,
            "resources": dict(ours.extractor_resources),
            "label_selector": dict(ours.extractor_labels),
        }
        where: Options = {"resources": A_PLACE} if any(node.stable for node in nodes) else at(home)
        return cls(
            beside=at(home),
            extractor={name: value for name, value in extractor.items() if value},
            writer={**where, "num_cpus": ours.writer_cpus},
        )


def here() -> str:
    """The Ray node that this process is on."""
    node_id: str = ray.get_runtime_context().get_node_id()
    return node_id


def ray_nodes() -> list[RayNode]:
    """The Ray nodes that live, and are not about to go: Ray places nothing on those."""
    going = draining()
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        RayNode(
            id=node["NodeID"],
            name=node["NodeName"],
            cpus=node["Resources"].get("CPU", 0.0),
            stable=node["Resources"].get(STABLE, 0.0) > 0,
        )
        for node in known
        if node["Alive"] and node["NodeID"] not in going
    ]
