"""Where the benchmarks of fail-over play: a database, slow nodes, workers; and how all of it is looked at."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from ampd_ray.metadb.embedded import EmbeddedPostgres
from tests.benchmarks.figures import quantiles
from tests.fakes.site import Site, add_provider, make_site, register
from tests.fakes.slow_node import SlowNode, slow_node
from tests.fakes.worker import END_SECS, UP, Worker
from tests.servers import Server, fresh_database

LATENCY_SECS = 0.02  # of each request, of which an extractor has one at a time: some 25 blocks a second
NEVER = 1 << 30  # bytes of a segment that only the end of its job closes
SOON = 1 << 12  # bytes of one that closes every few seconds

APPENDED = "select blocks_done from ampd_ray.job_progress where job_id = %s and phase = 'extracting'"
COMMITTED = """
select lower(blocks), upper(blocks) from ampd_ray.segment
where canonical and network = %s group by 1, 2 having count(*) = 3
"""


class Stage:
    """A site with a network and a slow node of its own for each job. Close it by its context manager."""

    def __init__(self, site: Site, nodes: dict[str, SlowNode], connection: psycopg.Connection[Any]) -> None:
        self.site = site
        self.nodes = nodes
        self.jobs: dict[str, int] = {}
        self._connection = connection
        self._started: list[Worker] = []

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What the database says."""
        return self._connection.execute(query.encode(), values).fetchall()

    def start(self, node_id: str, *arguments: str, **env: str) -> Worker:
        """Begin to start a worker; it is ended with the stage at the latest."""
        self._started.append(worker := Worker(self.site, node_id, arguments, env))
        return worker

    def deploy(self, network: str, node_id: str) -> int:
        """A job without an end on this network."""
        with self.site.client() as client:
            job = client.deploy(register(client, network, network), node_id)
        self.jobs[network] = job.id
        return job.id

    def committed(self, network: str) -> set[int]:
        """The blocks that are in files of all three tables."""
        return {block for first, end in self.rows(COMMITTED, network) for block in range(first, end)}

    def open(self, network: str) -> int:
        """How many blocks, by the job's own word, a writer has in a file that is not committed yet."""
        done = self.rows(APPENDED, self.jobs[network])
        return int(done[0][0]) - len(self.committed(network)) if done else 0

    def end(self) -> None:
        """End all workers, and whatever is left of them."""
        for worker in self._started:
            kill(worker)


@contextmanager
def stage(server: Server, networks: Iterable[str], *, segment_bytes: int, **ours: Any) -> Iterator[Stage]:
    """A stage on a database of its own; ``ours`` are keys of ``[ampd_ray]``."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="ampd-bench-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        url = stack.enter_context(fresh_database(server))
        nodes = {network: stack.enter_context(slow_node(LATENCY_SECS)) for network in networks}
        site = make_site(directory / "site", url, "http://127.0.0.1:1", writer={"bytes": segment_bytes}, **ours)
        for network, node in nodes.items():
            add_provider(site, network, node.url, concurrent_request_limit=1)
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        made = Stage(site, nodes, connection)
        stack.callback(made.end)
        yield made


@contextmanager
def own_server() -> Iterator[Server]:
    """An embedded Postgres for as long as the block lasts."""
    root = Path(tempfile.mkdtemp(prefix="ampd-bench-"))
    postgres = EmbeddedPostgres(root / "metadb")
    try:
        yield Server("benchmark", postgres.start())
    finally:
        postgres.stop(patience=1.0)
        shutil.rmtree(root)


def is_up(worker: Worker) -> bool:
    """True once it takes jobs, and while it lives."""
    return UP in worker.log() and worker.process.poll() is None


def kill(worker: Worker) -> None:
    """End a worker as a machine that loses its power: all of its processes in one moment."""
    left = processes_of(worker)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # so that none sees another one die
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
    worker.process.wait()
    psutil.wait_procs(left, END_SECS)


def processes_of(worker: Worker) -> list[psutil.Process]:
    """The driver and all that it started, also when it has ended itself: they share its session."""
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(pid) == worker.process.pid:
                found.append(psutil.Process(pid))
    return found


def seconds(values: Sequence[float]) -> dict[str, float]:
    """The figures of a sample."""
    return {name: round(value, 2) for name, value in quantiles(values, 50, 99).items()}
