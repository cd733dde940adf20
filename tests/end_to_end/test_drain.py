"""Ending a worker gracefully, and starting it again: nothing is lost and nothing is done twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import psycopg

from ampd_ray import failpoints
from ampd_ray.client import Client
from ampd_ray.client.job import Job
from ampd_ray.clouds.machine import TOLD
from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import check
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.metadata import metadata
from tests.fakes.site import Site, make_site, register, wait_until
from tests.fakes.worker import DRAIN_SECS, Worker
from tests.servers import Server, fresh_database

NOTICE_SECS = 10.0
PART = 200  # of the chain; the job cannot end before the third part is there
LAST = 3 * PART


def test_a_worker_is_drained_twice_and_its_job_resumed(tmp_path: Path, embedded: Server) -> None:
    with fresh_database(embedded) as url, run_devnet(PART) as chain, metadata() as service:
        site = make_site(tmp_path / "site", url, chain.url)
        running: list[Worker] = [Worker(site, "worker-1").up()]
        try:
            with site.client() as client:
                descriptor = register(client, "eth").model_copy(update={"end_block": str(LAST)})
                job = client.deploy(descriptor)
                wait_until(lambda: committed(site) > 0, what="something committed")
                chain.mine(PART)
                tree = running[0].tree()
                assert running[0].drain(signal.SIGTERM) == 0
                assert psutil.wait_procs(tree, 5.0)[1] == []
                assert_left_to_resume(client, job)

                running.append(Worker(site, "worker-1").up())
                before = committed(site)
                chain.mine(PART // 2)
                wait_until(lambda: committed(site) > before, what="the job resumed")
                os.killpg(running[1].process.pid, signal.SIGINT)  # Ctrl-C reaches all processes of a terminal
                assert running[1].process.wait(DRAIN_SECS) == 0
                assert_left_to_resume(client, job)

                running.append(Worker(site, "worker-1", env={TOLD: f"aws={service.url}"}).up())
                chain.mine(PART // 2)
                assert job.outcome(120).status is JobStatus.COMPLETED
                assert [event.event_type for event in job.events()] == ["SCHEDULED", "RUNNING", "COMPLETED"]
                service.take_away(NOTICE_SECS)  # the machine, and with it all of the worker's own Ray
                assert running[2].process.wait(DRAIN_SECS) == 0
            assert check(url, "_/eth", 0, LAST) == []
            assert "the machine of this node goes" in running[2].log()
            assert all("node ends" in worker.log() and "Traceback" not in worker.log() for worker in running)
        finally:
            for worker in running:
                worker.end()


def committed(site: Site) -> int:
    """How many files are registered."""
    with psycopg.connect(site.url) as connection:
        row = connection.execute("select count(*) from file_metadata").fetchone()
    return int(row[0]) if row else 0


def assert_left_to_resume(client: Client, job: Job) -> None:
    """The row stays RUNNING, and nobody would give the node another job."""
    assert job.status() is JobStatus.RUNNING
    (worker,) = client.workers()
    assert worker.draining
    assert not worker.alive


def test_a_drain_that_had_to_drop_what_it_had_extracted_says_so(tmp_path: Path, embedded: Server) -> None:
    """A commit is held for longer than the drain lasts: code 1, and the next worker extracts those blocks again."""
    fired = tmp_path / "fired"
    fired.mkdir()
    held = {failpoints.ARMS: "before-commit=delay(60)@2", failpoints.FIRED: str(fired)}
    with fresh_database(embedded) as url, run_devnet(PART) as chain:
        site = make_site(tmp_path / "site", url, chain.url, drain_timeout_secs=6)
        running: list[Worker] = [Worker(site, "worker-1", env=held).up()]
        try:
            with site.client() as client:
                descriptor = register(client, "eth").model_copy(update={"end_block": str(PART)})
                job = client.deploy(descriptor)
                wait_until(lambda: list(fired.glob("before-commit.*")) != [], what="a commit that is held")
                assert running[0].drain() == 1
                assert "not committed before the stop" in running[0].log()
                assert_left_to_resume(client, job)
                running.append(Worker(site, "worker-1").up())
                assert job.outcome(120).status is JobStatus.COMPLETED
                assert running[1].drain() == 0
            assert check(url, "_/eth", 0, PART) == []
        finally:
            for worker in running:
                worker.end()
