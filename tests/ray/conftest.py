"""One Ray for the whole session, and a node whose actors run on it."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from ampd_ray import __version__, failpoints
from ampd_ray.actors.coordinator import CoordinatorActor
from ampd_ray.actors.driver_watch import Watched
from ampd_ray.actors.environment import prepare
from ampd_ray.actors.pool import Member, Pool
from ampd_ray.config import Settings, seal
from ampd_ray.node.sizes import Sizes
from tests.servers import Server, fresh_database

CPUS = 4
os.environ["RAY_AUTH_MODE"] = "disabled"  # it is too late for a token: Ray is imported
prepare(os.environ, local=True)


@dataclass(frozen=True)
class Arms:
    """The failpoints of all actors; this process has none."""

    file: Path
    fired: Path

    def arm(self, told: str) -> None:
        """From now on, until the test ends."""
        self.file.write_text(told)

    def disarm(self) -> None:
        self.file.unlink(missing_ok=True)
        for trace in self.fired.iterdir():
            trace.unlink()

    def counts(self) -> Counter[str]:
        """How often each has fired."""
        return Counter(trace.name.partition(".")[0] for trace in self.fired.iterdir())

    async def have_fired(self, times: int) -> None:
        """Wait until all of them together have fired so often."""
        await until(lambda: self.counts().total() >= times)


@pytest.fixture(scope="session")
def armory(tmp_path_factory: pytest.TempPathFactory) -> Arms:
    directory = tmp_path_factory.mktemp("failpoints")
    made = Arms(directory / "arms", directory / "fired")
    made.fired.mkdir()
    return made


@pytest.fixture
def arms(armory: Arms) -> Iterator[Arms]:
    """Failpoints to be armed in actors."""
    yield armory
    armory.disarm()


@pytest.fixture(scope="session", autouse=True)
def local_ray(armory: Arms) -> Iterator[None]:
    """A Ray of our own on loopback; actors import what the tests import."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(failpoints.ARMS, f"@{armory.file}")
        environment.setenv(failpoints.FIRED, str(armory.fired))
        ray.init(
            address="local",
            num_cpus=CPUS,
            include_dashboard=False,
            object_store_memory=256 << 20,
            log_to_driver=False,
            configure_logging=False,
        )
    yield
    ray.shutdown()


@pytest.fixture
def database(embedded: Server) -> Iterator[str]:
    """The URL of a fresh, empty database."""
    with fresh_database(embedded) as url:
        yield url


class Hog:
    """Holds what it was given."""

    def ready(self) -> bool:
        return True


@pytest.fixture
def no_cpu_left() -> Iterator[None]:
    """Somebody else has all CPUs of the cluster."""
    as_actor: Any = ray.remote(num_cpus=CPUS)
    hog = as_actor(Hog).remote()
    ray.get(hog.ready.remote())
    yield
    ray.kill(hog)


async def until(holds: Callable[[], Any], within: float = 60.0) -> Any:
    """Look again and again until ``holds()`` gives something true; returns it."""
    async with asyncio.timeout(within):
        while True:
            if found := holds():
                return found
            await asyncio.sleep(0.02)


@contextmanager
def halted(pid: int) -> Iterator[psutil.Process]:
    """A process that is stopped, and goes on at the end if it is still there."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()


async def ready_members(pool: Pool, count: int) -> list[Member]:
    """The members of ``pool``, once ``count`` of them are ready."""
    await until(lambda: len([member for member in pool._members if member.ready]) >= count)
    return pool._members


@asynccontextmanager
async def node(settings: Settings, sizes: Sizes) -> AsyncIterator[CoordinatorActor]:
    """A coordinator in this process, with its extractors and writers on Ray."""
    actor = CoordinatorActor(seal(settings), "worker-1", {"version": __version__}, sizes, Watched.of(os.getpid()))
    running = asyncio.create_task(actor.run())
    try:
        await until(lambda: actor._coordinator.counters.reconciles or running.done())
        yield actor
    finally:
        await actor.ask_drain()
        assert await asyncio.wait_for(running, 60) == 0
