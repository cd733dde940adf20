"""Extractors and writers as the jobs see them: calls that go to an actor of a pool, and give its load back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from ampd_ray import failpoints
from ampd_ray.actors.crew import Crew
from ampd_ray.actors.failures import actor_is_gone, domain_error
from ampd_ray.actors.pool import Member, Pool
from ampd_ray.chain.ranges import Span
from ampd_ray.errors import ActorLost
from ampd_ray.materialize.leaving import Leave
from ampd_ray.materialize.types import ExtractSummary, Partition, RangeTask, WriterReport
from ampd_ray.node.sharing import Ask


class RayExtractors:
    """The port ``Extractors`` of :mod:`ampd_ray.materialize.perform` on Ray."""

    def __init__(self, crew: Crew, job_id: int, weight: float):
        self._crew = crew
        self._job_id = job_id
        self._weight = weight

    def slots(self, wanted: int) -> int:
        """The job's fair part of what keeps every extractor that is there fetching while it decodes."""
        return self._crew.slots(self._job_id, Ask(wanted, self._weight))

    async def extract(self, task: RangeTask) -> tuple[ExtractSummary, Any]:
        """The summary by value, the rows as a reference that a writer resolves."""
        pool = self._crew.pool
        member = await pool.acquire()
        failure: BaseException | None = None
        try:
            summary, rows = member.handle.extract.remote(replace(task, share=self._crew.share(task.provider)))
            await failpoints.reach("task-dispatched")
            return await summary, rows
        except Exception as error:
            failure = error
            raise domain_error(error, "an extractor") from None
        finally:
            pool.release(member, failure)


class RayWriters:
    """The port ``Writers`` of :mod:`ampd_ray.materialize.passes` on Ray."""

    def __init__(self, pool: Pool):
        self._pool = pool

    async def open(self, partition: Partition) -> RayPartition:
        """Give the partition to the least loaded writer."""
        member = await self._pool.acquire()
        try:
            key = member.handle.open.remote(partition)
            return RayPartition(self._pool, member, await key)
        except asyncio.CancelledError:
            self._pool.release(member)
            member.handle.discard.remote(key)  # it takes the partition all the same; Ray calls this once it has
            raise
        except Exception as error:
            self._pool.release(member, error)
            raise domain_error(error, "a writer") from None


class RayPartition:
    """A partition at a writer actor."""

    def __init__(self, pool: Pool, member: Member, key: int):
        self._pool = pool
        self._member = member
        self._key = key
        self._released = False

    async def append(self, rows: Any) -> WriterReport:
        """Pass the reference on; Ray resolves it in the writer's process."""
        report: WriterReport = await self._call("append", rows)
        return report

    async def skip(self, span: Span) -> WriterReport:
        """Do without these blocks."""
        report: WriterReport = await self._call("skip", span)
        return report

    async def flush(self, reason: str) -> WriterReport:
        """Commit what the open file holds."""
        report: WriterReport = await self._call("flush", reason)
        return report

    async def discard(self) -> None:
        """Give the partition back."""
        try:
            await self._call("discard")
        finally:
            self._release(None)

    async def leaves(self) -> Leave:
        """Returns once the writer's Ray node is about to go."""
        await self._member.leaving.wait()
        return Leave.within(self._member.gone_at - asyncio.get_running_loop().time())

    async def _call(self, method: str, *args: Any) -> Any:
        if self._released:
            raise ActorLost("the writer of this partition was lost")
        try:
            return await getattr(self._member.handle, method).remote(self._key, *args)
        except Exception as error:
            if actor_is_gone(error):
                self._release(error)
            raise domain_error(error, "a writer") from None

    def _release(self, error: Exception | None) -> None:
        if not self._released:
            self._released = True
            self._pool.release(self._member, error)
