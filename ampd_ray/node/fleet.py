"""Which Amp nodes a worker for every Ray node runs, and when, as a pure machine: one on each that is stable.

Facts go in, orders come out; time comes with the facts. What ended is started again after a pause, for as long as its
Ray node is there, and unless it gave itself up, as one does whose Ray node is about to go.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ampd_ray.node.places import RayNode

PAUSE_SECS: Final = 1.0  # before a node that ended is started again; doubled with each end that follows soon
PAUSE_MAX_SECS: Final = 60.0
SOON_SECS: Final = 120.0
NODE_ID_CHARS: Final = 128


@dataclass(frozen=True, slots=True)
class Start:
    """Order: start the coordinator of ``node_id`` on a Ray node."""

    node_id: str
    ray_node: str


@dataclass(slots=True)
class _Member:
    """One Amp node, on the Ray node that it was last started on."""

    ray_node: str
    started: float
    pause: float
    running: bool = True
    again_at: float = 0.0
    gave_up: bool = False

    def may_start(self, ray_node: str, now: float) -> bool:
        """A Ray node that is new, be it of the same name, owes nothing to what happened before."""
        return not self.running and (ray_node != self.ray_node or (now >= self.again_at and not self.gave_up))


class Fleet:
    """The Amp nodes of one driver. Their Node IDs are ``prefix`` with the names of their Ray nodes.

    ``exit_code`` counts what happens after :meth:`drain`: before that, what fails is started again.
    """

    def __init__(self, prefix: str) -> None:
        self.exit_code = 0
        self._prefix = prefix
        self._members: dict[str, _Member] = {}
        self._draining = False

    @property
    def running(self) -> list[str]:
        """The Node IDs that run."""
        return [node_id for node_id, member in self._members.items() if member.running]

    def node_id(self, ray_node: RayNode) -> str:
        """The Node ID for a Ray node: the same again for a machine that comes back under its name."""
        return (self._prefix + re.sub(r"[^A-Za-z0-9._-]", "-", ray_node.name))[:NODE_ID_CHARS]

    def clashes(self, ray_nodes: Sequence[RayNode]) -> list[str]:
        """The Node IDs that are those of several Ray nodes: only one of these gets a coordinator."""
        counts = Counter(self.node_id(node) for node in ray_nodes if node.stable)
        return sorted(node_id for node_id, count in counts.items() if count > 1)

    def seen(self, ray_nodes: Sequence[RayNode], now: float) -> list[Start]:
        """These Ray nodes live. What runs on others ends by itself, and is heard of then."""
        if self._draining:
            return []
        wanted = {self.node_id(node): node.id for node in sorted(ray_nodes, key=lambda node: node.id) if node.stable}
        for node_id in [name for name, member in self._members.items() if not (member.running or name in wanted)]:
            del self._members[node_id]
        orders = []
        for node_id, ray_node in wanted.items():
            before = self._members.get(node_id)
            if before is None or before.may_start(ray_node, now):
                same = before is not None and before.ray_node == ray_node
                self._members[node_id] = _Member(ray_node, now, before.pause if before and same else 0.0)
                orders.append(Start(node_id, ray_node))
        return orders

    def ended(self, node_id: str, code: int, now: float) -> None:
        """A coordinator ended. ``code`` is 0 if it had drained, by our order or its own."""
        member = self._members[node_id]
        member.running = False
        member.gave_up = code == 0
        soon = now - member.started < SOON_SECS
        member.pause = min(PAUSE_MAX_SECS, 2 * member.pause or PAUSE_SECS) if soon else PAUSE_SECS
        member.again_at = now + member.pause
        if self._draining and code:
            self.exit_code = 1

    def drain(self) -> None:
        """Nothing is started any more."""
        self._draining = True

    @property
    def over(self) -> bool:
        """True when all have ended that were to drain."""
        return self._draining and not self.running
