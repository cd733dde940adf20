"""A whole node in this process whose extractors and writers are real actors: what survives their deaths."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import ray

from ampd_ray.actors import pool
from ampd_ray.actors.coordinator import CoordinatorActor
from ampd_ray.actors.crew import Crew
from ampd_ray.actors.placement import Placement, here, ray_nodes
from ampd_ray.actors.pool import Member, extractor_pool, writer_pool
from ampd_ray.actors.ports import RayExtractors
from ampd_ray.chain.ranges import Span
from ampd_ray.config import Sealed, load_settings, seal
from ampd_ray.errors import ProviderUnreachable
from ampd_ray.materialize.types import RangeTask
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.node.scaling import Bounds
from ampd_ray.node.sizes import Sizes
from tests.chaos.check import check
from tests.fakes.devnet import Devnet
from tests.fakes.fetched import Fetched
from tests.fakes.site import Site, add_provider, make_site, register
from tests.fakes.tcp_proxy import TcpProxy
from tests.ray.conftest import Arms, node, until

LAST = 1000
STEPS = ("mid-file", "published", "committed")
SEEN = 4 << 20  # bytes of answers, of some 10 MiB for the whole chain
TABLES = ("blocks", "transactions", "logs")
pytestmark = pytest.mark.parametrize("devnet", [LAST], indirect=True)

Kill = Callable[[int, Any], None]


def kill_9(pid: int, handle: Any) -> None:
    os.kill(pid, signal.SIGKILL)


def ray_kill(pid: int, handle: Any) -> None:
    ray.kill(handle)


def halt(pid: int, handle: Any) -> None:
    """It is there, and does nothing any more."""
    os.kill(pid, signal.SIGSTOP)


@pytest.fixture
def kill(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kill:
    monkeypatch.setattr(pool, "PROBE_SECS", 0.2)
    made: Kill = request.param
    return made


kills = pytest.mark.parametrize("kill", [kill_9, ray_kill, halt], indirect=True)


@pytest.fixture
def site(tmp_path: Path, database: str, devnet: Devnet) -> Site:
    return make_site(tmp_path / "site", database, devnet.url, writer={"bytes": 4096})  # a file an extract


@asynccontextmanager
async def between(devnet: Devnet, site: Site) -> AsyncIterator[TcpProxy]:
    """A proxy before the devnet that falls silent in the middle of the chain; the provider file names it."""
    parts = urlsplit(devnet.url)
    async with TcpProxy(str(parts.hostname), int(parts.port or 0)) as proxy:
        add_provider(site, "devnet", f"http://127.0.0.1:{proxy.port}")
        proxy.blackhole(after=SEEN)
        yield proxy


async def run_job(site: Site) -> asyncio.Task[JobRow]:
    """Deploy a job for all blocks; the task ends with it."""

    def deploy_and_wait() -> JobRow:
        with site.client() as client:
            descriptor = register(client, "eth").model_copy(update={"end_block": str(LAST)})
            return client.deploy(descriptor).outcome(100)

    return asyncio.create_task(asyncio.to_thread(deploy_and_wait))


def files_in(site: Site) -> int:
    return len(list(site.data_dir.glob("_/eth/blocks/*/*.parquet")))


async def held_in_the_middle(actor: CoordinatorActor, proxy: TcpProxy, site: Site) -> tuple[Member, Member]:
    """Wait until the job has lost sight of its chain; its extractor and its writer, both at work."""
    await until(lambda: proxy.silent and files_in(site))
    (extractor,), (writer,) = actor._extractors._members, actor._writers._members
    await until(lambda: extractor.load and writer.load)
    return extractor, writer


async def assert_complete(site: Site, running: asyncio.Task[JobRow]) -> None:
    row = await running
    assert row.status is JobStatus.COMPLETED, row.detail
    assert await asyncio.to_thread(check, site.url, "_/eth", 0, LAST) == []


@kills
async def test_an_extractor_that_dies_in_mid_task_is_replaced(site: Site, devnet: Devnet, kill: Kill) -> None:
    async with between(devnet, site) as proxy, node(site.settings(), Sizes(1, 1)) as actor:
        fetched = Fetched(devnet, site.url)
        running = await run_job(site)
        extractor, writer = await held_in_the_middle(actor, proxy, site)
        pid = await extractor.handle.ready.remote()
        fetched.mark()
        kill(pid, extractor.handle)
        await until(lambda: actor._extractors.replaced)
        proxy.resume()
        await assert_complete(site, running)
        assert fetched.again() == [0]
        await until(lambda: not psutil.pid_exists(pid))
        assert await actor._extractors._members[0].handle.ready.remote() != pid
        assert actor._writers._members == [writer]


@kills
async def test_a_writer_that_dies_has_its_partition_planned_again(
    site: Site, devnet: Devnet, kill: Kill, caplog: pytest.LogCaptureFixture
) -> None:
    async with between(devnet, site) as proxy, node(site.settings(), Sizes(1, 1)) as actor:
        fetched = Fetched(devnet, site.url)
        running = await run_job(site)
        extractor, writer = await held_in_the_middle(actor, proxy, site)
        pid = await writer.handle.ready.remote()
        fetched.mark()
        kill(pid, writer.handle)
        proxy.resume()
        await assert_complete(site, running)
        assert "its blocks are planned again" in caplog.text
        assert fetched.again() == [0]
        assert actor._writers.replaced == 1
        await until(lambda: not psutil.pid_exists(pid))
        assert await actor._writers._members[0].handle.ready.remote() != pid
        assert actor._extractors._members == [extractor]


async def test_writers_that_die_at_each_step_of_a_file_leave_no_block_out_and_none_twice(
    site: Site, devnet: Devnet, arms: Arms
) -> None:
    """In the middle of a file, with the file in place, and with COMMIT answered but nobody told."""
    fetched = Fetched(devnet, site.url)
    arms.arm("; ".join(f"{point}=kill@2" for point in STEPS))
    async with node(site.settings(), Sizes(1, 1)) as actor:
        running = await run_job(site)
        for killed in range(1, len(STEPS) + 1):
            await arms.have_fired(killed)
            await asyncio.to_thread(fetched.mark)
        await assert_complete(site, running)
        assert actor._writers.replaced == len(STEPS)
    assert arms.counts() == Counter(STEPS)
    assert fetched.again() == [0] * len(STEPS)


async def test_everything_dies_at_once(site: Site, devnet: Devnet) -> None:
    async with between(devnet, site) as proxy, node(site.settings(), Sizes(1, 1)) as actor:
        running = await run_job(site)
        for member in await held_in_the_middle(actor, proxy, site):
            kill_9(await member.handle.ready.remote(), member.handle)
        proxy.resume()
        await assert_complete(site, running)


async def test_a_job_goes_on_where_all_cpus_are_taken(site: Site, no_cpu_left: None) -> None:
    async with node(site.settings(), Sizes(3, 2)) as actor:
        await assert_complete(site, await run_job(site))
        assert [member.ready for member in actor._extractors._members] == [True, False, False]


async def test_a_writer_that_cannot_start_fails_the_job(site: Site) -> None:
    async with node(site.settings(), Sizes(1, 1)) as actor:
        actor._writers = writer_pool(elsewhere(site), 1, placement(site), "ampd-ray/test")
        row = await run_job(site)
        failed = await row
        assert failed.status is JobStatus.FATAL
        assert "no_such_database" in json.dumps(failed.detail)
        assert files_in(site) == 0


def placement(site: Site) -> Placement:
    return Placement.of(ray_nodes(), here(), site.settings().ampd_ray)


def elsewhere(site: Site) -> Sealed:
    """The configuration with a database that is not there."""
    name = urlsplit(site.url).path.removeprefix("/")
    other = site.config.with_name("elsewhere.toml")
    other.write_text(site.config.read_text().replace(f"/{name}?", "/no_such_database?"))
    return seal(load_settings(other, {}))


async def test_rows_stay_where_they_are_and_errors_travel(site: Site, devnet: Devnet) -> None:
    """The coordinator's process gets the summary and a reference; an error keeps its facts."""
    pool = extractor_pool(seal(site.settings()), 1, placement(site))
    try:
        extractors = RayExtractors(Crew(pool, Bounds(1, 1, 60.0)), 1, 10)
        summary, rows = await extractors.extract(RangeTask(1, 0, Span(1, 200), TABLES, "devnet", "devnet"))
        assert isinstance(rows, ray.ObjectRef)
        assert summary.rows["blocks"] == 200
        assert summary.nbytes > 50 * len(pickle.dumps(summary))
        assert set((await rows).tables) == set(TABLES)
        add_provider(site, "nobody", "http://127.0.0.1:1")
        with pytest.raises(ProviderUnreachable) as raised:
            await extractors.extract(RangeTask(1, 0, Span(1, 2), TABLES, "nobody", "nobody"))
        assert raised.value.details["host"] == "127.0.0.1:1"
        assert pool._members[0].load == 0
    finally:
        pool.close()
