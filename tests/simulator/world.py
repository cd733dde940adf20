"""One database with its store, its chain, and the workers and controllers that use it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from unittest import mock

from ampd_ray import failpoints
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import Manifest
from ampd_ray.materialize import meter, setup, sweep, write
from ampd_ray.materialize.types import WriterOptions
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.node import claims
from tests.simulator.chain import Chain
from tests.simulator.checker import Checker
from tests.simulator.control import Control
from tests.simulator.faults import Faults
from tests.simulator.kernel import Kernel
from tests.simulator.loop import PROCESS
from tests.simulator.node import Node
from tests.simulator.process import Process
from tests.simulator.session import Pool
from tests.simulator.site import MANIFEST, TABLES, Site
from tests.simulator.store import MemoryStore


class Crashes(logging.Handler):
    """Hears of exceptions that the product did not foresee."""

    def __init__(self, checker: Checker):
        super().__init__(logging.ERROR)
        self._checker = checker

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        process = PROCESS.get()
        if isinstance(error, Exception) and not (process is not None and process.gone):
            self._checker.crashed(error)


class SimulatedDatabase(Database):
    """The product's own, but for where the sessions come from."""

    def __init__(self, pool: Pool):
        super().__init__("postgresql://simulated/simulated")
        self._sessions = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        with self.translated():
            async with self._sessions.connection() as session:
                yield session


@dataclass(frozen=True)
class Plan:
    """What a run is about, as its seed has it."""

    end: int
    unit_blocks: int
    segment_blocks: int
    max_writers: int
    collect_after_secs: float | None
    sweep_every_secs: float
    fork: int
    nodes: int
    storm: int  # steps of jobs

    @classmethod
    def draw(cls, rng: Random) -> Plan:
        end = rng.randint(1, 6)
        return cls(
            end=end,
            unit_blocks=rng.randint(2, 4),
            segment_blocks=rng.randint(2, 4),
            max_writers=rng.randint(1, 2),
            collect_after_secs=rng.choice([None, 2.0, 10.0]),
            sweep_every_secs=rng.choice([1.0, 3.0]),
            fork=rng.randint(1, end),
            nodes=2,
            storm=rng.randint(80, 300),
        )

    @property
    def options(self) -> WriterOptions:
        return WriterOptions(segment_blocks=self.segment_blocks, collect_after_secs=self.collect_after_secs)

    @property
    def descriptor(self) -> JobDescriptor:
        return JobDescriptor(
            dataset_namespace="_", dataset_name="simulated", manifest_hash=MANIFEST.hash, end_block=str(self.end),
            max_writers=self.max_writers, tables=TABLES,
        )  # fmt: skip


@dataclass
class World:
    """Everything of one run."""

    kernel: Kernel
    site: Site
    plan: Plan
    nodes: list[Node] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        kernel, plan = self.kernel, self.plan
        self.site.reset()
        self.faults = Faults(kernel.rng)
        self.chain = Chain(plan.end, plan.fork)
        self.store = MemoryStore(kernel, self.faults)
        self.checker = Checker(self.site.admin, kernel, self.store.objects_by_path, TABLES, plan.end)
        self.pool = Pool(kernel, self.faults, list(self.site.wires))
        self.pool.on_change = self.checker.look
        self.store.on_delete = self.checker.deleting
        self.store.on_publish = self._published
        self.locks = self.site.wires[0].locks
        self.database = SimulatedDatabase(self.pool)
        self.locks.on_deadlock = self.checker.deadlocked
        self.control = Control(self)

    def process(self, name: str, node_id: str | None) -> Process:
        """A new process, which the scheduler knows."""
        process = Process(self.kernel, name, node_id)
        self.processes.append(process)
        return process

    def start_node(self, node_id: str) -> Node:
        node = Node(self, node_id, f"{node_id}{'abcdefghijklmnopqrstuvwxyz'[len(self.nodes) % 26]}")
        self.nodes.append(node)
        self.kernel.note(f"{node.name} starts")
        return node

    def _published(self, location_id: int, epoch: int) -> None:
        self.faults.counts["late_writes"] += epoch < self.checker.granted.get(location_id, 0)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The few places of the product that reach for real time, threads or Parquet reach for ours."""
        kernel = self.kernel

        async def in_thread(call: Any, *args: Any, **kwargs: Any) -> Any:
            await kernel.gate(getattr(call, "__name__", "call"))
            return call(*args, **kwargs)

        def reach(point: str) -> Coroutine[Any, Any, None]:
            process = PROCESS.get()
            settles = point == "before-settle" and process is not None and process.settles
            return kernel.gate("@before-end" if settles else f"@{point}")

        async def manifest(*_: Any) -> Manifest:
            return MANIFEST

        logger, crashes = logging.getLogger("ampd_ray"), Crashes(self.checker)
        with (
            mock.patch.object(logger, "handlers", [crashes]),
            mock.patch.object(logger, "propagate", False),
            mock.patch.object(logger, "disabled", False),
            mock.patch("asyncio.to_thread", in_thread),
            mock.patch.object(sweep, "_in_thread", in_thread),
            mock.patch("time.monotonic", kernel.loop.time),
            mock.patch.object(failpoints, "reach", reach),
            mock.patch.object(setup, "load_manifest", manifest),
            mock.patch.object(write, "TableFile", self.store.table_file),
            mock.patch.object(meter, "REPORT_EVERY_SECS", 10.0),
            mock.patch.object(claims, "LOOK_EVERY", timedelta(seconds=2)),
        ):
            yield
