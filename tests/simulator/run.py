"""One seed: a storm of faults, then calm until the job is complete, then the sweeps, then the verdict."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from ampd_ray.errors import AmpdError
from ampd_ray.materialize.sweep import Broom
from ampd_ray.metadb import jobs, workers
from ampd_ray.node.housekeeping import Housekeeping
from tests.simulator.checker import TERMINAL, Violation
from tests.simulator.kernel import Kernel
from tests.simulator.node import GROUP, INFO, Node
from tests.simulator.schedule import Schedule, Stuck
from tests.simulator.site import Site
from tests.simulator.world import Plan, World

CALM_ROUNDS = 150
LATER_SECS = (3700.0, 25 * 3600.0)  # between what is looked at again, and what is forgotten


@dataclass
class Result:
    """What came of a seed. ``violation``: what did not hold, by its invariant and in words."""

    seed: int
    violation: tuple[str, str] | None
    steps: int
    secs: float
    digest: str
    counts: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


def run(seed: int, site: Site, *, keep_trace: bool = False, only: Collection[str] | None = None) -> Result:
    """Run one seed on a site; the same seed always does the same."""
    began = time.perf_counter()
    random.seed(seed)  # the product spreads its pauses
    kernel = Kernel(seed, keep_trace=keep_trace)
    asyncio.set_event_loop(kernel.loop)
    world = World(kernel, site, Plan.draw(kernel.rng))
    world.checker.only = only
    schedule = Schedule(world)
    kernel.on_idle = schedule
    violation: tuple[str, str] | None = None
    gc.disable()  # it would end what is left of killed tasks, by code of theirs, at any moment
    with world.installed():
        try:
            kernel.loop.run_until_complete(_story(world, schedule))
            if world.checker.found is not None:
                raise world.checker.found
        except (Violation, Stuck) as error:
            violation = (getattr(error, "invariant", "end"), str(error))
        finally:
            _tidy(world, schedule)
            gc.enable()
    gc.collect()
    counts = world.faults.counts
    counts["takeovers"] += world.checker.takeovers
    counts["collected"] += world.checker.collected
    counts["conflicts"] += sum(node.counters.state_conflicts for node in world.nodes)
    return Result(
        seed, violation, schedule.steps, time.perf_counter() - began, kernel.digest, counts, kernel.lines or []
    )


async def _story(world: World, schedule: Schedule) -> None:
    db = world.database
    for number in range(1, world.plan.nodes + 1):
        node = world.start_node(f"n{number}")
        async with db.connection() as conn:  # it was here before
            await workers.take_node_lease(conn, node.node_id, node.incarnation)
            await workers.register(conn, node.node_id, INFO)
    await world.control.schedule("n1")
    await schedule.calm
    await _complete(world)
    await _end(world)
    broom = Broom(world.database, world.store, collect=world.plan.collect_after_secs is not None)
    for secs in LATER_SECS:
        world.kernel.clock += secs
        assert await Housekeeping(broom, world.database, GROUP).once()
    world.checker.finish()


async def _complete(world: World) -> None:
    """Have the job run until it is complete, and nothing is under way."""
    db = world.database
    for _ in range(CALM_ROUNDS):
        async with db.connection() as conn:
            row = await jobs.get(conn, world.control.job_id)
        live = [node for node in world.nodes if not node.process.gone and not node.draining]
        if not live:
            live = [world.start_node("n1")]
        assert row is not None
        if row.status in TERMINAL:
            if row.status == "COMPLETED" and not any(node.writers.busy() for node in world.nodes):
                return
            if row.status != "COMPLETED":
                with suppress(AmpdError):  # not registered yet, or somebody else was faster
                    await world.control.schedule(live[0].node_id)
        await asyncio.sleep(2.0)
    raise Stuck(f"the job is not complete after {CALM_ROUNDS} calm rounds: {row}")


async def _end(world: World) -> None:
    """All nodes end, half of them properly."""

    def end(node: Node) -> None:
        if world.kernel.rng.random() < 0.5 and not node.draining:
            node.drain()
        else:
            node.process.kill()

    for node in world.nodes:
        if not node.process.gone:
            end(node)
    for _ in range(CALM_ROUNDS):
        if all(node.process.gone for node in world.nodes):
            for process in world.processes:
                process.kill()
            return
        await asyncio.sleep(1.0)
    raise Stuck("a node does not end")


def _tidy(world: World, schedule: Schedule) -> None:
    """Nothing of the run is left, however it ended."""
    kernel = world.kernel
    schedule.storms = world.faults.on = False
    for process in world.processes:
        process.kill()
    for wire in list(world.locks.waiting):
        world.locks.give_up(wire)
    kernel.on_idle = kernel.loop.stop
    for task in sorted(asyncio.all_tasks(kernel.loop), key=hash):
        task.cancel()
    for _ in range(50):
        kernel.loop.run_forever()
        left = sorted(asyncio.all_tasks(kernel.loop), key=hash)
        if not left:
            break
        for task in left:
            task.cancel()
    world.pool.close()
    kernel.loop.close()
