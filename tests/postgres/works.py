"""A whole node with real jobs, in this process: everything but Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.materialize.setup import JobSpec
from ampd_ray.materialize.types import JobOutcome
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.node.coordinator import Coordinator
from tests.fakes.bench import Bench, Run
from tests.postgres.nodes import settings_in


@dataclass
class Works:
    """A whole node with real jobs. Its writers have a line to the database of their own, as actors elsewhere do.

    ``prepare`` sees each run before it begins.
    """

    bench: Bench
    coordinator: Coordinator = None  # type: ignore[assignment]
    prepare: Callable[[Run], None] = lambda run: None
    runs: list[Run] = field(default_factory=list)
    outcomes: list[JobOutcome] = field(default_factory=list)
    task: asyncio.Task[int] | None = None

    def __call__(self, row: JobRow, descriptor: JobDescriptor) -> Any:
        spec = JobSpec(row.job_id, self.coordinator.node_id, self.coordinator.incarnation, descriptor)
        environment = replace(self.bench.environment(), db=self.coordinator.db, keeper=self.coordinator.keeper)
        run = self.bench.again(spec, environment)
        self.prepare(run)
        self.runs.append(run)
        return _Watched(run, self.outcomes)


@dataclass
class _Watched:
    """A job whose outcome a test can look at."""

    made: Run
    outcomes: list[JobOutcome]

    async def run(self) -> JobOutcome:
        outcome = await self.made()
        self.outcomes.append(outcome)
        return outcome

    async def stop(self, deadline_secs: float) -> None:
        await self.made.job.stop(deadline_secs)

    def cancel(self) -> None:
        self.made.job.cancel()


@asynccontextmanager
async def works(
    bench: Bench, url: str, node_id: str, prepare: Callable[[Run], None] = lambda run: None, **ours: Any
) -> AsyncIterator[Works]:
    """Such a node, which is ended at the end of the block."""
    made = Works(bench, prepare=prepare)
    made.coordinator = Coordinator(settings_in(bench.root, **ours), node_id, url, made, {})
    made.task = asyncio.create_task(made.coordinator.run())
    try:
        yield made
    finally:
        made.coordinator.ask_drain()
        made.coordinator.ask_drain()
        await asyncio.gather(made.task, return_exceptions=True)
