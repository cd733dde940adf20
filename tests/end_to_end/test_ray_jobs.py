"""Workers on a Ray cluster that was there before: joined by address, found by ``auto``, run as Ray jobs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.client import Client
from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import check
from tests.fakes.ampd import ampd
from tests.fakes.cluster import Cluster
from tests.fakes.cluster import cluster as run_cluster
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.notebook import executed
from tests.fakes.places import REPO
from tests.fakes.site import Site, empty_database, ends_as, make_site, register, wait_until
from tests.fakes.worker import workers
from tests.servers import Server

LAST = 200
LONG = 3000
GONE_WITHIN_SECS = 20.0
AGENT_SECS = 120.0  # Ray's job agent is slow to start on a busy machine
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two Ray nodes with one CPU each."""
    directory = Path(tempfile.mkdtemp(prefix="ampd-", dir="/tmp"))  # sockets' paths are short
    try:
        with run_cluster(directory, ray_nodes=2, cpus=1) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, embedded: Server, devnet: Devnet) -> Iterator[Site]:
    with empty_database(embedded) as url:
        yield make_site(tmp_path_factory.mktemp("cluster") / "site", url, devnet.url)


def test_two_workers_share_a_cluster_of_two_cpus(cluster: Cluster, site: Site) -> None:
    """Each has its writer and extractor, whatever the other took; drained or killed, none leaves an actor behind."""
    with (
        workers(site, "by-address", arguments=["--address", cluster.address], env=cluster.env) as [one],
        workers(site, "by-auto", arguments=["--address", "auto"], env=cluster.env) as [two],
        site.client() as client,
    ):
        jobs = []
        for worker in (one, two):
            descriptor = register(client, worker.node_id.replace("-", "_")).model_copy(update={"end_block": str(LAST)})
            jobs.append(client.deploy(descriptor, worker.node_id))
        assert [ends_as(client, job.id) for job in jobs] == [JobStatus.COMPLETED] * 2
        assert Counter(cluster.actors(0)) == {"CoordinatorActor": 2, "ExtractorActor": 2, "WriterActor": 2}
        verified = _verified(site, "--address", cluster.address, env=cluster.env)
        assert (verified["passed"], verified["failed"]) == (LAST + 1, [])
        assert verified == _verified(site, "--processes", "1")
        assert one.drain() == 0
        two.kill()
        wait_until(lambda: not cluster.actors(0), GONE_WITHIN_SECS, "the end of all actors")
    for name in ("by_address", "by_auto"):
        assert check(site.url, f"_/{name}", 0, LAST) == []
    assert cluster.ray("status", "--address", cluster.address).returncode == 0


def _verified(site: Site, *where: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What ``ampd verify`` finds, but for how long it took."""
    done = ampd("--config", site.config, "verify", "_/by_address", *where, "--quiet", "--json", env=env)
    assert done.code == 0, done.out + done.err
    found: dict[str, Any] = json.loads(done.out)
    del found["seconds"]
    return found


def test_worker_and_backfill_as_ray_jobs(cluster: Cluster, site: Site, devnet: Devnet) -> None:
    """The outcome of a Ray job is the exit code of what it ran."""
    worker = ("worker", "--config", str(site.config), "--node-id", "ray-job")
    wait_until(lambda: submit(cluster, *worker, job_id="the-worker").returncode == 0, AGENT_SECS, "Ray's job agent")
    try:
        with site.client() as client:
            wait_until(lambda: alive(client), AGENT_SECS, "the worker")
        common = ("--config", str(site.config), "--rpc", devnet.url, "--network", "devnet", "--quiet")
        done = submit(cluster, "backfill", *common, "--blocks", "0:101", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        summary = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
        assert (summary["blocks"], summary["holes"]) == (101, [])
        failed = submit(cluster, "backfill", *common, "--blocks", "0:1M")
        assert failed.returncode == 1
        assert "beyond" in failed.stdout + failed.stderr or "head" in failed.stdout + failed.stderr
    finally:
        stopped = cluster.ray("job", "stop", "--address", cluster.dashboard, "the-worker")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    with site.client() as client:
        wait_until(lambda: not alive(client), what="the worker's end")


def test_the_notebook_about_a_cluster(cluster: Cluster, embedded: Server, devnet: Devnet, tmp_path: Path) -> None:
    """Its kernel has the configuration and nothing of Ray; the job runs on the cluster."""
    with empty_database(embedded) as url:
        site = make_site(tmp_path / "site", url, devnet.url, extractors=2, min_extractors=2)
        with workers(site, "worker-1", arguments=["--address", cluster.address], env=cluster.env):
            run = executed(
                "04_cluster.ipynb", tmp_path, {"AMP_CONFIG": str(site.config)}, 'print("ray" in sys.modules)'
            )
    assert "worker-1" in run.text("worker.node_id")
    assert re.search(r"blocks +3,000 to extract", run.text("amp.plan("))
    assert "3,000 of 3,000" in run.shows("job.wait()", "text/plain")
    assert re.findall(r"worker-1  (\w+)", run.text("event.event_type")) == ["SCHEDULED", "RUNNING", "COMPLETED"]
    assert "<svg" in run.shows("job.rates()", "text/html")
    assert "<svg" in run.shows("dataset.coverage()", "text/html")
    assert "False" in run.text("sys.modules")


def test_a_ray_node_vanishes_with_extractors_and_rows(cluster: Cluster, tmp_path: Path, embedded: Server) -> None:
    """The last test of this cluster: one of its Ray nodes is lost, as a pre-empted machine is."""
    with empty_database(embedded) as url, run_devnet(LONG) as chain:
        site = make_site(tmp_path / "site", url, chain.url, extractors=3, min_extractors=3)
        arguments = ["--address", cluster.address]
        with workers(site, "stable", arguments=arguments, env=cluster.env), site.client() as client:
            warm = client.deploy(register(client, "warm").model_copy(update={"end_block": "10"}))
            assert ends_as(client, warm.id) is JobStatus.COMPLETED
            wait_until(lambda: "ExtractorActor" in cluster.actors(1), what="an extractor on the other Ray node")
            job = client.deploy(register(client, "eth").model_copy(update={"end_block": str(LONG)}))
            wait_until(lambda: list(site.data_dir.glob("_/eth/blocks/*/*.parquet")), what="a first file")
            assert job.status() is JobStatus.RUNNING
            cluster.kill(1)
            assert ends_as(client, job.id) is JobStatus.COMPLETED
        assert check(url, "_/eth", 0, LONG) == []


def alive(client: Client) -> bool:
    return any(row.node_id == "ray-job" and row.alive for row in client.workers())


def submit(
    cluster: Cluster, script: str, *arguments: str, job_id: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``ray job submit`` of one of our scripts; with a ``job_id`` it does not wait for the end."""
    options = ["--address", cluster.dashboard, *(["--no-wait", "--submission-id", job_id] if job_id else [])]
    command = [sys.executable, str(REPO / "jobs" / f"{script}.py"), *arguments]
    return cluster.ray("job", "submit", *options, "--", *command, within=AGENT_SECS)
