"""Real workers are killed, put to sleep, drained: their job goes from one to the other, each block is there once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from ampd_ray.client import Client
from ampd_ray.client.job import Job
from ampd_ray.errors import Fenced
from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import check
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.site import Site, make_site, register, wait_until
from tests.fakes.worker import Worker, end_all
from tests.servers import Server, fresh_database

PART = 200
PARTS = 4
LAST = PART * PARTS
DEAD_SECS = 9.0  # from a kill to RUNNING elsewhere
RELEASED_SECS = 3.0
FENCED_SECS = 20.0  # from its wake-up to the end of a worker whose Node ID another one has

pytestmark = pytest.mark.timeout(400)


@dataclass
class Story:
    """A job, and the chain that it follows: the end comes only when a test wants it."""

    site: Site
    chain: Devnet
    job: Job

    def grows(self) -> None:
        """Put blocks on the chain, and wait until some of them are committed."""
        before = self.committed()
        self.chain.mine(PART)
        wait_until(lambda: self.committed() > before, what="more committed")

    def committed(self) -> int:
        with psycopg.connect(self.site.url) as connection:
            row = connection.execute("select count(*) from file_metadata").fetchone()
        return int(row[0]) if row else 0

    def node(self) -> str:
        with psycopg.connect(self.site.url) as connection:
            row = connection.execute("select node_id from jobs_status where status = 'RUNNING'").fetchone()
        return str(row[0]) if row else ""

    def reasons(self) -> list[str]:
        """Why the job changed hands, each time."""
        query = "select detail ->> 'reason' from job_events where detail ? 'reassigned_from' order by id"
        with psycopg.connect(self.site.url) as connection:
            return [str(reason) for (reason,) in connection.execute(query).fetchall()]

    def moves_to(self, worker: Worker, within: float) -> float:
        """Seconds until the job is RUNNING there."""
        started = time.monotonic()
        wait_until(lambda: self.node() == worker.node_id, within, f"the job on {worker.node_id}")
        return time.monotonic() - started


@contextmanager
def asleep(worker: Worker) -> Iterator[None]:
    """Stop a whole worker, and let it go on."""
    tree = [psutil.Process(worker.process.pid), *worker.tree()]
    _send(tree, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(tree, signal.SIGCONT)


def _send(tree: list[psutil.Process], number: signal.Signals) -> None:
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def test_a_job_goes_from_worker_to_worker(tmp_path: Path, embedded: Server) -> None:
    left: list[psutil.Process] = []
    with fresh_database(embedded) as url, run_devnet(PART) as chain:
        site = make_site(tmp_path / "site", url, chain.url)
        started = [Worker(site, "north"), Worker(site, "south")]
        try:
            north, south = [worker.up() for worker in started]
            with site.client() as client:
                story = deployed(client, site, chain, north)
                wait_until(lambda: story.committed() > 0, what="something committed")

                left += north.kill()
                killed = story.moves_to(south, DEAD_SECS)
                story.grows()
                started.append(north := Worker(site, "north").up())

                with asleep(south):
                    slept = story.moves_to(north, DEAD_SECS)
                    story.grows()
                    started.append(again := Worker(site, "south").up())
                assert south.process.wait(FENCED_SECS) == Fenced.exit_code, south.log()
                assert "another process runs node 'south' now" in south.log()

                assert north.drain() == 0
                drained = story.moves_to(again, RELEASED_SECS)
                story.grows()
                assert story.job.outcome(120).status is JobStatus.COMPLETED
                assert again.drain() == 0
                events = [(event.event_type, event.node_id) for event in story.job.events()]
                reasons = story.reasons()
        finally:
            for worker in started:
                worker.end()
            end_all(left)
        print(f"RUNNING elsewhere after: kill {killed:.1f} s, sleep {slept:.1f} s, drain {drained:.1f} s")
        assert events == [
            ("SCHEDULED", "north"),
            ("RUNNING", "north"),
            ("RUNNING", "south"),
            ("RUNNING", "north"),
            ("RUNNING", "south"),
            ("COMPLETED", "south"),
        ]
        assert reasons == ["released", "dead", "released"]  # a driver's coordinator gives the node up as it dies
        assert check(url, "_/eth", 0, LAST) == []


def deployed(client: Client, site: Site, chain: Devnet, worker: Worker) -> Story:
    descriptor = register(client, "eth").model_copy(update={"end_block": str(LAST)})
    return Story(site, chain, client.deploy(descriptor, worker.node_id))
