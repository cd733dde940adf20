"""Leases that nobody renews: a bench without a heartbeat, whose jobs never hear that time passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ampd_ray.materialize.leases import Holder


@dataclass
class UnkeptLeases:
    """The port ``Keeper``. ``holders`` are the jobs that hold leases, by id: a test may tell them anything."""

    holders: dict[int, Holder] = field(default_factory=dict)

    @property
    def clock(self) -> Callable[[], float]:
        return time.monotonic

    def hold(self, job_id: int, location_ids: Collection[int], asked_at: float, holder: Holder) -> None:
        self.holders[job_id] = holder

    async def let_go(self, job_id: int) -> None:
        self.holders.pop(job_id, None)
