"""Conducts schedules one after the other, has each looked at by the checker, and counts."""

from __future__ import annotations

import asyncio
import json
import re
import time
import traceback
from collections.abc import Sequence

from ampd_ray.client.job import Job
from ampd_ray.materialize.sweep import Broom
from ampd_ray.metadb.connection import Database
from ampd_ray.node.housekeeping import Housekeeping
from ampd_ray.store.files import open_store
from tests.chaos.conduct import Conductor
from tests.chaos.counts import Counts
from tests.chaos.plan import schedule
from tests.chaos.watcher import Watcher
from tests.chaos.world import CALM, GROUP, Late, World, world

NODES = ("north", "south", "west")
UP_SECS = 120.0
END_SECS = 40.0
FENCED = re.compile(r"outcome=fenced|msg=\"?fenced")
TAKEOVERS = "select count(*) from job_events where detail ? 'reassigned_from'"
AGE = (  # as if the day had passed that a sweep waits before it looks for late writers again, and nodes were long gone
    "update ampd_ray.file_intent set swept_at = swept_at - interval '2 days' returning 1",
    "update ampd_ray.location_lease set expires_at = expires_at - interval '1 min' returning 1",
)


class Run:
    """The schedules of some seeds in one world, with a job that lives through all of them."""

    def __init__(self, here: World, watcher: Watcher, counts: Counts) -> None:
        self._here = here
        self._watcher = watcher
        self._counts = counts
        self._datasets: dict[str, tuple[int, int]] = {}
        self._seen_takeovers = 0

    def go(self, seeds: Sequence[int]) -> None:
        """All of them, and a last look at everything."""
        here = self._here
        here.until(here.all_up, UP_SECS, "all workers up")
        calm = here.deploy(CALM, CALM, 0, None)
        conductor = Conductor(here, calm)
        for seed in seeds:
            self._one(conductor, seed)
        self._end(calm)

    def _one(self, conductor: Conductor, seed: int) -> None:
        here, started, plan = self._here, time.monotonic(), schedule(seed)
        told = conductor.conduct(plan)
        self._datasets |= {f"_/{CALM}": (0, here.around.head), f"_/{told.dataset}": (told.first, told.last)}
        looked = self._watcher.look(
            {name: self._datasets[name] for name in (f"_/{CALM}", f"_/{told.dataset}")}, told.story()
        )
        problems = [*looked["problems"], *here.nodes.bury(), *here.nodes.strange_ends()]
        self._counts.add(plan, told.injected, told.points, told.recovered_secs)
        self._totals(looked)
        facts = f"recovered in {told.recovered_secs} s, {self._takeovers()} take-overs, {looked.get('files')} files"
        print(f"seed {seed}: {plan}: {facts}, {time.monotonic() - started:.1f} s", flush=True)
        self._report(f"seed {seed}", problems)

    def _takeovers(self) -> int:
        """Since the last time that somebody asked."""
        before, self._seen_takeovers = self._seen_takeovers, self._counts.takeovers
        return self._counts.takeovers - before

    def _totals(self, looked: dict[str, int]) -> None:
        counts, here = self._counts, self._here
        ((counts.takeovers,),) = here.ask(TAKEOVERS)
        counts.restarts = here.nodes.restarts
        counts.files, counts.blocks = looked.get("files", 0), looked.get("blocks", 0)
        logs = here.site.directory.glob("*.log")
        counts.fenced = sum(len(FENCED.findall(path.read_text(errors="replace"))) for path in logs)

    def _report(self, where: str, problems: list[str]) -> None:
        self._counts.violations += len(problems)
        for problem in problems:
            print(f"  VIOLATION in {where}: {problem}"[:1000], flush=True)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _end(self, calm: Job) -> None:
        problems = come_to_an_end(self._here, calm)
        looked = self._watcher.look(self._datasets, full=True)
        self._totals(looked)
        self._report("the end", [*problems, *looked["problems"]])


def come_to_an_end(here: World, calm: Job) -> list[str]:
    """Stop the job, drain the workers, sweep as if a day had passed; what went wrong. Then nothing is forgiven."""
    problems = list[str]()
    try:
        here.until(here.all_up, UP_SECS, "all workers up")
        calm.stop()
        here.until(lambda: here.status(calm) == "STOPPED", END_SECS, f"{CALM} stopped")
        for node in here.nodes.values():
            node.held = True
            node.drain()
        here.until(lambda: not any(node.alive for node in here.nodes.values()), END_SECS, "all workers drained")
        problems += [f"I10 {n.node_id} drained: {code}" for n in here.nodes.values() if (code := n.code) != 0]
    except Late as late:
        problems.append(f"I10 {late}")
    for _ in range(2):
        for statement in AGE:
            here.ask(statement)
        asyncio.run(_sweep(here))
    return problems


async def _sweep(here: World) -> None:
    """What every node does once a minute."""
    settings = here.site.settings()
    db = Database(settings.metadata_db.dsn(), application_name="chaos")
    await db.open()
    broom = Broom(db, open_store(settings.data_dir), collect=True)
    await Housekeeping(broom, db, GROUP).once()
    await db.close()


def run(seeds: Sequence[int]) -> int:
    """All of it; 1 if an invariant was violated, and then the directory with all logs stays."""
    counts, started = Counts(), time.monotonic()
    try:
        with world(NODES) as here, Watcher(here) as watcher:
            Run(here, watcher, counts).go(seeds)
            here.keep = counts.violations > 0
    except Exception:
        counts.violations += 1
        traceback.print_exc()
    print(json.dumps(counts.json(time.monotonic() - started)), flush=True)
    return 1 if counts.violations else 0
