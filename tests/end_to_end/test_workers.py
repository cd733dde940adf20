"""Two workers on one database: jobs side by side, one of them stopped, one that nobody announced, and the beat."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import psutil
import psycopg
import pytest

from ampd_ray.client import Client
from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import check
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.site import Site, ends_as, make_site, register, wait_until
from tests.fakes.worker import Worker, ampd, workers
from tests.servers import Server, fresh_database

HEAD = 200
BLOCK_SECS = 0.05
RECONCILE_SECS = 2.0
HEAVY_BLOCKS = 3000
NODES = ("north", "south")


@dataclass(frozen=True)
class Town:
    """Two workers that are up, what they share, and a chain that grows."""

    site: Site
    chain: Devnet
    client: Client
    workers: list[Worker]

    @property
    def head(self) -> int:
        return int(self.chain.call("eth_blockNumber"), 16)

    def covered(self, dataset: str) -> int:
        """Blocks that all tables of a dataset have."""
        statement = """
            select min(blocks) from (
                select coalesce(sum(upper(s.blocks) - lower(s.blocks)), 0) as blocks
                from physical_tables t left join ampd_ray.segment s on s.location_id = t.active_revision_id
                where t.dataset_name = %s group by t.table_name) per_table"""
        with psycopg.connect(self.site.url) as connection:
            row = connection.execute(statement, [dataset]).fetchone()
        return int(row[0] or 0) if row else 0


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, embedded: Server) -> Iterator[Town]:
    with fresh_database(embedded) as url, run_devnet(HEAD, block_time=BLOCK_SECS) as chain:
        site = make_site(
            tmp_path_factory.mktemp("town") / "site", url, chain.url, reconcile_interval_secs=RECONCILE_SECS
        )
        with workers(site, *NODES) as started, site.client() as client:
            yield Town(site, chain, client, started)


def test_four_jobs_on_two_workers_side_by_side(town: Town) -> None:
    client, last = town.client, town.head + 100  # so that all four run at the same time for some seconds
    names = ["a", "b", "c", "d"]
    jobs = []
    for name, node in zip(names, NODES * 2, strict=True):
        descriptor = register(client, name).model_copy(update={"end_block": str(last)})
        jobs.append(client.deploy(descriptor, node))
    wait_until(lambda: [job.status() for job in jobs] == [JobStatus.RUNNING] * 4, what="four jobs at a time")
    listed = json.loads(ampd(town.site, "workers", "list", "--json").stdout)
    shown = {row["node_id"]: (row["state"], row["jobs"], row["implementation"]) for row in listed}
    assert shown == dict.fromkeys(NODES, ("alive", 2, "ampd-ray"))
    for job, name, node in zip(jobs, names, NODES * 2, strict=True):
        assert ends_as(client, job.id) is JobStatus.COMPLETED
        events = job.events()
        assert [event.event_type for event in events] == ["SCHEDULED", "RUNNING", "COMPLETED"]
        assert {event.node_id for event in events} == {node}
        assert check(town.site.url, f"_/{name}", 0, last) == []


def test_a_job_is_stopped_while_another_goes_on(town: Town) -> None:
    client = town.client
    stopped, other = (client.deploy(register(client, name), "north") for name in ("stopped", "other"))
    wait_until(lambda: town.covered("stopped") > 0 and town.covered("other") > 0, what="both jobs at work")
    said = ampd(town.site, "jobs", "stop", str(stopped.id), "--wait", "30", "--json")
    assert json.loads(said.stdout) == {"job_id": stopped.id, "status": "STOPPED"}
    covered, others = town.covered("stopped"), town.covered("other")
    assert [event.event_type for event in stopped.events()] == [
        "SCHEDULED", "RUNNING", "STOP_REQUESTED", "STOPPING", "STOPPED",
    ]  # fmt: skip
    wait_until(lambda: town.covered("other") > others + 20, what="the other job going on")
    assert other.status() is JobStatus.RUNNING
    assert town.covered("stopped") == covered
    other.stop()
    assert ends_as(client, other.id) is JobStatus.STOPPED
    last = town.head  # what the stop left out comes now, and nothing twice
    resumed = client.deploy(register(client, "stopped").model_copy(update={"end_block": str(last)}), "north")
    assert (resumed.id, ends_as(client, resumed.id)) == (stopped.id, JobStatus.COMPLETED)
    assert check(town.site.url, "_/stopped", 0, last) == []


def test_a_job_that_nobody_announced_is_found(town: Town) -> None:
    """Rows as Amp's controller writes them, but without its NOTIFY."""
    descriptor = register(town.client, "silent").model_copy(update={"end_block": "150"})
    with psycopg.connect(town.site.url) as connection:
        row = connection.execute(
            "insert into jobs (node_id, descriptor, idempotency_key) values ('south', %s, 'silent') returning id",
            [descriptor.to_json()],
        ).fetchone()
        assert row is not None
        job_id = int(row[0])
        connection.execute(
            "insert into jobs_status (job_id, node_id, status, detail) values (%s, 'south', 'SCHEDULED', %s)",
            [job_id, descriptor.to_json()],
        )
        connection.execute(
            "insert into job_events (job_id, node_id, event_type, detail) values (%s, 'south', 'SCHEDULED', %s)",
            [job_id, descriptor.to_json()],
        )
    committed = time.monotonic()
    wait_until(lambda: town.client.job(job_id).status() is not JobStatus.SCHEDULED, 20, "the job found")
    assert time.monotonic() - committed < 3 * RECONCILE_SECS
    assert ends_as(town.client, job_id) is JobStatus.COMPLETED
    assert check(town.site.url, "_/silent", 0, 150) == []


class Beats(threading.Thread):
    """Looks at the heartbeats until ``end``; ``gaps`` are the longest pauses seen, in seconds, by node."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.gaps: dict[str, float] = {}
        self.count = 0
        self._url = url
        self._ended = threading.Event()

    def run(self) -> None:
        last: dict[str, datetime] = {}
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._ended.wait(0.1):
                for node, beat in connection.execute("select node_id, heartbeat_at from workers").fetchall():
                    if beat != last.get(node, beat):
                        self.count += 1
                        self.gaps[node] = max(self.gaps.get(node, 0.0), (beat - last[node]).total_seconds())
                    last[node] = beat

    def end(self) -> None:
        self._ended.set()
        self.join()


def test_the_beat_goes_on_under_load(town: Town, record_property: Callable[[str, object], None]) -> None:
    """All cores busy with extracting, and nothing of it in the processes that beat."""
    with run_devnet(HEAVY_BLOCKS) as chain:
        town.client.add_provider("heavy", kind="evm-rpc", network="heavy", url=chain.url)
        beats = Beats(town.site.url)
        beats.start()
        jobs = []
        for name, node in zip("wxyz", NODES * 2, strict=True):
            descriptor = register(town.client, name, "heavy")
            wanted = descriptor.model_copy(update={"end_block": str(HEAVY_BLOCKS), "max_writers": 2})
            jobs.append(town.client.deploy(wanted, node))
        assert [ends_as(town.client, job.id) for job in jobs] == [JobStatus.COMPLETED] * 4
        beats.end()
    record_property("longest_gap_secs", beats.gaps)
    print(f"beats: {beats.count}, longest gaps: {beats.gaps}")
    assert set(beats.gaps) == set(NODES)
    assert max(beats.gaps.values()) < 3.0


def test_a_worker_whose_coordinator_dies_says_so(town: Town) -> None:
    """The last test here: it ends a worker."""
    north, south = town.workers
    (coordinator,) = [p for p in south.tree() if p.cmdline()[0].startswith("ray::CoordinatorActor")]
    tree = south.tree()
    coordinator.kill()
    assert south.process.wait(20) == 1
    assert "the coordinator actor died; nothing is lost" in south.log()
    assert "Traceback" not in south.log()
    assert psutil.wait_procs(tree, 10)[1] == []
    assert north.process.poll() is None
