"""Who runs a node: its Node ID, and this process among all that ever ran it (``spec/metadata-db.md`` 4, 1.10)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from ampd_ray.errors import Fenced, NodeInUse
from ampd_ray.metadb.workers import Holder

NAME_BYTES: Final = 63  # Postgres cuts longer application names
PROOF_BYTES: Final = 18  # so much of an incarnation is no coincidence: 16 hex digits


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are: the Node ID, this process among those that ever ran it, and what ``workers.info`` says."""

    node_id: str
    incarnation: UUID
    info: dict[str, str]

    @property
    def session_name(self) -> str:
        """The application name of our sessions, by which a lost one is known; cut as Postgres cuts it."""
        name = f"ampd-ray/{self.node_id}/{self.incarnation}"
        return name.encode()[:NAME_BYTES].decode(errors="ignore")

    @property
    def name_is_proof(self) -> bool:
        """Whether nobody else's sessions can have our name: not if the Node ID is so long that the rest is cut off."""
        return len(f"ampd-ray/{self.node_id}/".encode()) + PROOF_BYTES <= NAME_BYTES

    def is_ours(self, holder: Holder | None) -> bool:
        """Whether a session has our name and role."""
        return holder is not None and holder.same_role and holder.application_name == self.session_name

    def lost(self) -> Fenced:
        """The error for a node that another process has taken from us."""
        return Fenced(f"another process runs node {self.node_id!r} now: this one stops")


def in_use(node_id: str, waited: timedelta) -> NodeInUse:
    """The error for a Node ID that another process has kept all the while."""
    return NodeInUse(
        f"node id {node_id!r} is in use: another live process holds its lock (waited {waited.total_seconds():g} s). "
        "Stop that worker, or give this one another --node-id."
    )
