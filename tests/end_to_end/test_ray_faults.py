"""Jobs that outlive whatever can happen to the Ray they run on: memory, object store, Ray nodes, the whole cluster."""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from ampd_ray.client.job import Job
from ampd_ray.clouds.machine import TOLD
from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import check
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.fetched import Fetched
from tests.fakes.metadata import metadata
from tests.fakes.process import running
from tests.fakes.raylets import MEBIBYTES, Raylets, raylets
from tests.fakes.site import Site, add_provider, make_site, register, wait_until
from tests.fakes.worker import Worker, environment
from tests.servers import Server, fresh_database

PART = 60
LAST = 600
LARGE_BLOCKS = 24  # transactions each: the rows of a task are more than Ray sends inline
JOBS = ("a", "b", "c")  # each has a task at an extractor of its own
EXTRACTORS = len(JOBS)
SLOWLY = 1800 * EXTRACTORS  # requests a minute: a part takes four seconds
WITHIN_SECS = 120.0  # what takes a second or two where nothing else runs
MOVED_SECS = 15.0  # from a Ray node's end to RUNNING elsewhere, with slow processes
NOTICE_SECS, ANSWER_SECS = 6.0, 10.0  # of a cloud, and until all have noticed that nothing is left
EXIT_SECS = 60.0  # Ray looks for its head for 25 seconds when the driver leaves it
# Ray's memory monitor finds, each time it looks, that a process is one too many; the object store's disk is full.
NO_MEMORY = {"RAY_memory_usage_threshold": "0.0", "RAY_memory_monitor_refresh_ms": "12000"}
NO_DISK = {"RAY_local_fs_capacity_threshold": "0.0"}

pytestmark = pytest.mark.timeout(400)


@dataclass
class Story:
    """Jobs, the chain that they follow, and what they have asked of it: the end comes only when a test wants it."""

    site: Site
    chain: Devnet
    jobs: list[Job]
    fetched: Fetched

    def give_work(self) -> None:
        """Put blocks on the chain, if all that are there are committed."""
        head = self.chain.chain.head.number
        if head in self.fetched.committed():
            assert head + PART < LAST, "the story took too long"
            self.chain.mine(PART)

    def works_all_off(self) -> None:
        """Wait until all that is there is committed."""
        wait_until(lambda: self.chain.chain.head.number in self.fetched.committed(), WITHIN_SECS, "all committed")

    def goes_on(self) -> None:
        """Wait until there is more than there was."""
        before = self.fetched.committed()
        self.give_work()
        wait_until(lambda: self.fetched.committed() > before, WITHIN_SECS, "more committed")

    def nodes(self) -> list[str]:
        """Where the jobs are RUNNING."""
        with psycopg.connect(self.site.url) as connection:
            rows = connection.execute("select node_id from jobs_status where status = 'RUNNING'").fetchall()
        return [node for (node,) in rows]


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ampd-", dir="/tmp"))  # sockets' paths are short
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_jobs_outlive_everything_in_ray(directory: Path, tmp_path: Path, embedded: Server) -> None:
    started: list[Worker] = []
    with (
        fresh_database(embedded) as url,
        run_devnet(PART, txs_per_block=LARGE_BLOCKS) as chain,
        raylets(directory) as cluster,
    ):
        for _souths_and_norths in range(2):
            cluster.add(cpus=0)
        site = make_site(tmp_path / "site", url, chain.url, extractors=EXTRACTORS, min_extractors=EXTRACTORS)
        try:
            started += [joined(site, cluster, 1, "north"), joined(site, cluster, 0, "south")]
            north, south = [worker.up() for worker in started]
            with site.client() as client:
                add_provider(site, "devnet", chain.url, rate_limit_per_minute=SLOWLY)
                end = {"end_block": str(LAST)}
                jobs = [client.deploy(register(client, name).model_copy(update=end), "north") for name in JOBS]
                story = Story(site, chain, jobs, Fetched(chain, url, tables=3 * len(JOBS)))
                wait_until(story.fetched.committed, WITHIN_SECS, "something committed")

                out_of_memory(story, cluster, north)
                vanishing = store_full(story, cluster, north)
                extractors_vanish(story, cluster, north, vanishing)
                extractors_leave(story, cluster, north)
                coordinator_vanishes(story, cluster, north, south)
                cluster_killed(story, cluster, south)

                started.append(Worker(site, "south").up())  # on a Ray of its own
                story.goes_on()
                add_provider(site, "devnet", chain.url)
                chain.mine(LAST - chain.chain.head.number)
                assert {job.outcome(WITHIN_SECS).status for job in jobs} == {JobStatus.COMPLETED}
        finally:
            for worker in started:
                worker.end()
        assert story.fetched.again() == [0] * 5
        assert [check(url, f"_/{name}", 0, LAST) for name in JOBS] == [[]] * len(JOBS)


def joined(site: Site, cluster: Raylets, number: int, node_id: str) -> Worker:
    """A worker at one of the raylets."""
    return Worker(site, node_id, ["--address", cluster.address], cluster.env, ampd=cluster.ampd(number))


def out_of_memory(story: Story, cluster: Raylets, north: Worker) -> None:
    """Ray's memory monitor kills extractors that have tasks; those without a CPU of their own stand elsewhere."""
    number = cluster.add(cpus=EXTRACTORS - 1, env=NO_MEMORY)
    story.fetched.mark()
    with halting(cluster, number) as halt_those_with_tasks:

        def killed() -> int:
            story.give_work()
            halt_those_with_tasks()
            return logged(north, "its blocks go to another", "(OutOfMemoryError)")

        wait_until(killed, WITHIN_SECS, "a task killed for its memory")
        cluster.remove(number)


def store_full(story: Story, cluster: Raylets, north: Worker) -> int:
    """Somebody fills an object store, and its disk is full: what extractors there return has no room. Its raylet."""
    number = cluster.add(cpus=EXTRACTORS - 1, store_bytes=80 * MEBIBYTES, env=NO_DISK)
    hog = [sys.executable, "-m", "tests.fakes.store_hog", cluster.address, cluster.host(number)]
    with running(hog, "full: ", env=environment(cluster.env)):
        wait_until(lambda: cluster.actors(number).get("ExtractorActor"), WITHIN_SECS, "extractors beside it")
        story.fetched.mark()

        def without_room() -> int:
            story.give_work()
            return logged(north, "rows were lost", "(OutOfDiskError)")

        wait_until(without_room, WITHIN_SECS, "rows without room")
        story.works_all_off()
    return number


def extractors_vanish(story: Story, cluster: Raylets, north: Worker, number: int) -> None:
    """A Ray node goes in the middle of the job, with the tasks that its extractors have."""
    lost = logged(north, "its blocks go to another")
    with halting(cluster, number) as halt_those_with_tasks:

        def halted() -> int:
            story.give_work()
            return halt_those_with_tasks()

        wait_until(halted, WITHIN_SECS, "tasks that nobody goes on with")
        story.fetched.mark()
        cluster.remove(number)
        wait_until(lambda: logged(north, "its blocks go to another") > lost, WITHIN_SECS, "tasks lost")
    story.works_all_off()


def extractors_leave(story: Story, cluster: Raylets, north: Worker) -> None:
    """A cloud takes a machine away, and says so: nothing that is under way there is lost, and nothing done again."""
    with metadata() as service:
        number = cluster.add(cpus=EXTRACTORS - 1, env={TOLD: f"aws={service.url}"})
        with_tasks = functools.partial(extracting, cluster, number)
        wait_until(lambda: cluster.actors(number).get("ExtractorActor"), WITHIN_SECS, "extractors there")
        story.works_all_off()
        lost, asked = logged(north, "its blocks go to another"), len(story.fetched.numbers)

        def at_work() -> bool:
            story.give_work()
            return with_tasks() == EXTRACTORS - 1

        wait_until(at_work, WITHIN_SECS, "tasks there")
        service.take_away(NOTICE_SECS)
        given = time.monotonic()
        wait_until(lambda: not cluster.alive(number), NOTICE_SECS + ANSWER_SECS, "its Ray node ended")
        print(f"its Ray node ended {time.monotonic() - given:.1f} s after the notice of {NOTICE_SECS:g} s")
        story.works_all_off()
        cluster.remove(number)
    times = Counter(story.fetched.numbers[asked:])
    print("blocks fetched more than once in a job:", sum(count - len(JOBS) for count in times.values()))
    assert logged(north, "an extractor leaves") == EXTRACTORS - 1
    assert logged(north, "its blocks go to another") == lost
    assert set(times.values()) == {len(JOBS)}


def coordinator_vanishes(story: Story, cluster: Raylets, north: Worker, south: Worker) -> None:
    """The Ray node of a worker goes: the worker ends by itself, and the other one takes its jobs over."""
    story.give_work()
    gone = time.monotonic()
    cluster.remove(1)
    story.fetched.mark()
    wait_until(lambda: story.nodes() == ["south"] * len(JOBS), MOVED_SECS, "the jobs on south")
    print(f"RUNNING on south after {time.monotonic() - gone:.1f} s")
    assert north.process.wait(EXIT_SECS) == 1
    says_why(north)
    story.goes_on()


def cluster_killed(story: Story, cluster: Raylets, south: Worker) -> None:
    """Nothing is left of the cluster that a worker has joined: it ends by itself, and leaves nobody behind."""
    tree = [*south.tree(), *cluster.actors(0)["CoordinatorActor"], *cluster.actors(0)["WriterActor"]]
    story.give_work()
    gone = time.monotonic()
    cluster.kill()
    story.fetched.mark()
    assert south.process.wait(EXIT_SECS) == 1
    print(f"the worker ended {time.monotonic() - gone:.1f} s after its cluster")
    says_why(south)
    assert psutil.wait_procs(tree, 30)[1] == []


def says_why(worker: Worker) -> None:
    log = worker.log()
    assert "the coordinator actor died; nothing is lost" in log
    assert "Traceback" not in log


def logged(worker: Worker, *words: str) -> int:
    """How many lines of its log have all these words."""
    return sum(all(word in line for word in words) for line in worker.log().splitlines())


def extracting(cluster: Raylets, number: int) -> int:
    """How many extractors on a raylet have tasks."""
    titles = [process.cmdline()[0] for process in cluster.actors(number).get("ExtractorActor", [])]
    return sum(".extract" in title for title in titles)


@contextmanager
def halting(cluster: Raylets, number: int) -> Iterator[Callable[[], int]]:
    """Halt, at each call, the extractors on a raylet that have tasks; gives how many are halted in all."""
    halted: set[psutil.Process] = set()

    def halt() -> int:
        for process in cluster.actors(number).get("ExtractorActor", []):
            with suppress(psutil.Error):
                if process not in halted and ".extract" in process.cmdline()[0]:
                    process.suspend()
                    halted.add(process)
        return len(halted)

    try:
        yield halt
    finally:
        for process in halted:
            with suppress(psutil.NoSuchProcess):
                process.resume()
