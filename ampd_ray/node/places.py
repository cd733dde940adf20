"""Which Ray nodes there are, and which of them is for the coordinator of a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

STABLE: Final = "amp_node"
"""The custom resource of Ray nodes that stay: what stands there holds what nobody else has."""


@dataclass(frozen=True, slots=True)
class RayNode:
    """A Ray node that lives. ``name`` is what ``ray start --node-name`` said, else its address."""

    id: str
    name: str
    cpus: float
    stable: bool


def home(nodes: Sequence[RayNode], driver: str, node_id: str) -> str:
    """The Ray node for the coordinator of ``node_id``, whose driver is on the Ray node ``driver``.

    That is the driver's, if it is stable or none is. Else each Node ID has a stable one of its own to go to, so that
    workers spread without knowing of each other.
    """
    stable = [node.id for node in nodes if node.stable]
    if driver in stable or not stable:
        return driver
    return max(stable, key=lambda ray_node: sha256(f"{node_id} {ray_node}".encode()).digest())


def cpus(nodes: Sequence[RayNode]) -> float:
    """The CPUs of all of them."""
    return sum(node.cpus for node in nodes)


def cpus_for_writers(nodes: Sequence[RayNode], home: str) -> float:
    """The CPUs where writers may be: on stable Ray nodes, or beside their coordinator if there are none."""
    return cpus([node for node in nodes if node.stable] or [node for node in nodes if node.id == home])
