"""What controllers and operators do to the job meanwhile. Nothing ever stops or kills them."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ampd_ray.errors import AmpdError
from ampd_ray.metadb import jobs
from tests.simulator.process import Process

if TYPE_CHECKING:
    from tests.simulator.world import World


class Control:
    """Each order is a task of its own; what the rows refuse is left."""

    def __init__(self, world: World):
        self._world = world
        self._process = Process(world.kernel, "control")
        self._db = world.database
        self.job_id = 0

    async def schedule(self, node_id: str) -> None:
        """Ask for the job, as a person does."""
        self.job_id = await jobs.schedule(self._db, self._world.plan.descriptor, node_id)

    def order_schedule(self, node_id: str) -> None:
        self._order(self.schedule(node_id))

    def order_stop(self) -> None:
        self._order(jobs.request_stop(self._db, self.job_id))

    def order_retry(self, node_id: str) -> None:
        self._order(self._retry(node_id))

    async def _retry(self, node_id: str) -> None:
        async with self._db.connection() as conn:
            due = await jobs.retry_due(conn)
        for each in due:
            await jobs.reschedule(self._db, each.job_id, node_id)

    def _order(self, work: Coroutine[Any, Any, Any]) -> None:
        self._world.kernel.spawn(self._process, _let_be(work))


async def _let_be(work: Coroutine[Any, Any, Any]) -> None:
    with suppress(AmpdError):
        await work
