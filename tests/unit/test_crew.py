"""The extractors of a node follow its work, and its jobs share them: without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import ray

from ampd_ray.actors import pool as pool_module
from ampd_ray.actors.commons import Commons
from ampd_ray.actors.crew import Crew
from ampd_ray.actors.pool import Member, Pool
from ampd_ray.actors.ports import RayExtractors
from ampd_ray.actors.probed import Seen
from ampd_ray.chain.ranges import Span
from ampd_ray.materialize.state import TASKS_PER_EXTRACTOR
from ampd_ray.materialize.types import Load, RangeTask
from ampd_ray.node.scaling import Bounds
from ampd_ray.node.sharing import Ask, Needs

TASK = RangeTask(1, 0, Span(0, 1), ("blocks",), "mine", "devnet")
MANY = 1_000


class Actor:
    """Answers at once, on a Ray node of this name; a task takes until it is let go."""

    def __init__(self, site: Site, node: str):
        self.site = site
        self.node = node
        self.tasks: list[RangeTask] = []

    @property
    def is_of_version(self) -> Any:
        return _Call(self._agree)

    @property
    def ready(self) -> Any:
        return _Call(self._come_up)

    @property
    def stands_on(self) -> Any:
        return _Call(self._stand)

    @property
    def turns(self) -> Any:
        return _Call(self._look)

    @property
    def extract(self) -> Any:
        return _Pair(self)

    async def _agree(self) -> None:
        """Its package is ours."""

    async def _come_up(self) -> int:
        await self.site.room.wait()
        return 1

    async def _stand(self) -> str:
        return self.node

    async def _look(self) -> Seen:
        return Seen(self.site.load)


class _Call:
    def __init__(self, call: Any):
        self._call = call

    def remote(self, *_: Any) -> Any:
        return self._call()


class _Pair:
    def __init__(self, actor: Actor):
        self._actor = actor

    def remote(self, task: RangeTask) -> tuple[Any, str]:
        self._actor.tasks.append(task)
        return self._actor.site.let_go.wait(), "rows"


class Site:
    """Makes actors; all of them do what ``load`` says. Those beside the coordinator always have room."""

    def __init__(self) -> None:
        self.made: list[Actor] = []
        self.killed: list[Actor] = []
        self.load = Load()
        self.room = asyncio.Event()
        self.room.set()
        self.let_go = asyncio.Event()

    def make(self, beside: bool) -> Actor:
        self.made.append(Actor(self, "head" if beside else f"node-{len(self.made) % 2}"))
        return self.made[-1]

    @asynccontextmanager
    async def pool(self, size: int, **options: Any) -> AsyncIterator[Pool]:
        made = Pool("a helper", size, self.make, **{"eager": True} | options)
        yield made
        made.close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site()
    monkeypatch.setattr(pool_module, "PROBE_SECS", 0.0)
    monkeypatch.setattr(ray, "kill", made.killed.append)
    return made


async def until(holds: Any) -> None:
    async with asyncio.timeout(20):
        while True:
            if holds():
                return
            await asyncio.sleep(0)


async def test_who_is_too_many_gets_no_more_calls_and_is_let_go_once_it_has_none(site: Site) -> None:
    async with site.pool(3) as helpers:
        members = [await helpers.acquire() for _ in range(3)]
        await until(lambda: helpers.ready == 3)
        members += [await helpers.acquire() for _ in range(3)]
        helpers.resize(1)
        assert site.killed == [], "all have something under way"
        assert helpers.ready == 1
        assert [await helpers.acquire() for _ in range(3)] == [helpers._members[0]] * 3
        for member in members:
            helpers.release(member)
        assert len(site.killed) == helpers.released == 2
        assert [member.beside for member in helpers._members] == [True]


async def test_whoever_is_wanted_again_before_it_went_stays(site: Site) -> None:
    async with site.pool(2) as helpers:
        await busy(helpers, 2)
        helpers.resize(1)
        helpers.resize(2)
        assert (helpers.ready, len(site.made), site.killed) == (2, 2, [])


async def test_those_on_their_way_go_first_and_whole_ray_nodes_before_parts(site: Site) -> None:
    async with site.pool(5) as helpers:
        await busy(helpers, 5)
        for member in list(helpers._members):
            helpers.release(member)
        site.room.clear()
        helpers.resize(7)
        helpers.resize(5)
        assert len(helpers._members) == 5 == helpers.ready
        helpers.resize(3)
        assert len({actor.node for actor in site.made if actor not in site.killed} - {"head"}) == 1


async def busy(helpers: Pool, number: int) -> list[Member]:
    """Each of so many has a call."""
    members = [await helpers.acquire()]
    await until(lambda: helpers.ready == number)
    return members + [await helpers.acquire() for _ in range(number - 1)]


async def test_one_that_is_let_go_as_it_comes_up_is_ended_and_no_failed_start(site: Site) -> None:
    async with site.pool(2) as helpers:
        await helpers.acquire()
        await until(lambda: helpers.ready == 2)
        site.room.clear()
        helpers.resize(3)
        await until(lambda: len(site.made) == 3)
        helpers.resize(2)
        site.room.set()
        await until(lambda: site.made[2] in site.killed)
        assert helpers.ready == 2


async def test_one_that_is_let_go_before_it_was_asked_for_never_is(site: Site) -> None:
    async with site.pool(1) as helpers:
        await helpers.acquire()
        helpers.resize(2)
        helpers.resize(1)
        assert helpers.released == 1
        await until(lambda: not any("_bring_up" in str(task.get_coro()) for task in helpers._tasks))
        assert len(site.made) == 1, "nobody would ever end it, and a cluster would grow for it"


async def test_writers_that_nobody_needs_are_let_go_but_the_first(site: Site) -> None:
    async with site.pool(4, eager=False, idle_secs=0.05) as writers:
        members = await asyncio.gather(*[asyncio.create_task(writers.acquire()) for _ in range(3)])
        await until(lambda: writers.ready == 3)
        site.room.clear()
        members.append(await writers.acquire())
        await until(lambda: writers.pending == 1)
        assert writers.working == 3
        for member in members[1:]:
            writers.release(member)
        await until(lambda: len(writers._members) <= 2)
        assert members[0] in writers._members, "it has a partition"
        writers.release(members[0])
        await until(lambda: [member.beside for member in writers._members] == [True])
        assert writers.pending == 0, "or it would make a cluster grow for nothing"


async def test_more_come_while_those_that_there_are_have_no_time_and_go_when_there_is_no_work(site: Site) -> None:
    site.load = Load(busy=1.0)
    async with site.pool(1) as helpers:
        job = RayExtractors(Crew(helpers, Bounds(1, 5, idle_secs=0.05)), 1, 10)
        assert job.slots(MANY) == TASKS_PER_EXTRACTOR
        extracting = asyncio.create_task(job.extract(TASK))
        await until(lambda: helpers.ready == 5)
        assert job.slots(MANY) == 5 * TASKS_PER_EXTRACTOR
        assert job.slots(0) == 0
        site.let_go.set()
        await extracting
        await until(lambda: helpers.working == 1)
        assert helpers.replaced == 0


async def test_while_the_provider_takes_no_more_nobody_is_asked_for(site: Site) -> None:
    site.load = Load(busy=1.0, room=False)
    async with site.pool(1) as helpers:
        job = RayExtractors(crew := Crew(helpers, Bounds(1, 5, idle_secs=60.0)), 1, 10)
        job.slots(MANY)
        await helpers.acquire()
        for _ in range(20):
            crew._turn()
            await asyncio.sleep(0)
        assert (helpers.working, len(site.made)) == (1, 1)


async def test_a_worker_that_keeps_none_gets_one_as_soon_as_there_is_work(site: Site) -> None:
    async with site.pool(1) as helpers:
        job = RayExtractors(Crew(helpers, Bounds(0, 5, idle_secs=0.05)), 1, 10)
        site.let_go.set()
        job.slots(1)
        await job.extract(TASK)
        job.slots(0)
        await until(lambda: helpers.working == 0)
        job.slots(1)
        await job.extract(TASK)
        assert len(site.made) == 2


async def test_jobs_share_by_their_priorities_and_a_job_that_ends_leaves_all(site: Site) -> None:
    async with site.pool(3) as helpers:
        crew = Crew(helpers, Bounds(3, 3, 60.0))
        high, low = RayExtractors(crew, 1, 20), RayExtractors(crew, 2, 10)
        await busy(helpers, 3)
        assert high.slots(MANY) == 12
        assert (low.slots(MANY), high.slots(MANY)) == (4, 8)
        assert low.slots(1) == 1
        assert high.slots(MANY) == 11
        high.slots(0)
        assert low.slots(MANY) == 12


class Others(Commons):
    """Another worker of the cluster."""

    def __init__(self) -> None:
        self.told: list[Needs] = []
        self.extractors = 0

    def others_at(self, provider: str) -> int:
        return self.extractors if provider == "mine" else 0

    def tell(self, needs: Needs) -> None:
        self.told.append(needs)


async def test_each_extractor_is_told_its_share_of_the_providers_limits(site: Site) -> None:
    others = Others()
    async with site.pool(2) as helpers:
        job = RayExtractors(crew := Crew(helpers, Bounds(2, 2, 60.0), others), 1, 10)
        site.let_go.set()
        job.slots(MANY)
        await busy(helpers, 2)
        await job.extract(TASK)
        others.extractors = 6
        await job.extract(TASK)
        assert sorted(task.share for actor in site.made for task in actor.tasks) == [1 / 8, 1 / 2]
        crew._turn()
        assert others.told[-1] == Needs(have=1, want=1, providers={"mine": 2})


async def test_a_worker_gives_up_what_another_one_lacks(site: Site) -> None:
    others = Others()
    site.load = Load(busy=1.0)
    async with site.pool(1) as helpers:
        crew = Crew(helpers, Bounds(1, 5, 60.0), others)
        crew.slots(1, Ask(MANY))
        members = [await helpers.acquire()]
        await until(lambda: helpers.ready == 5)
        others.allowed = 2
        crew._turn()
        await until(lambda: helpers.working == 3)
        assert others.told[-1].want == 4, "it still would like to have them"
        assert all(member in helpers._members for member in members), "what is under way goes on"
