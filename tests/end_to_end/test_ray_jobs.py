"""Workers on a Ray cluster that was there before: joined by address, found by ``auto``, run as Ray jobs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobSubmissionClient

from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import check
from tests.fakes.ampd import ampd
from tests.fakes.cluster import Cluster
from tests.fakes.cluster import cluster as run_cluster
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.notebook import executed
from tests.fakes.places import REPO
from tests.fakes.site import Site, ends_as, make_site, register, wait_until
from tests.fakes.worker import workers
from tests.servers import Server, fresh_database

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
    with fresh_database(embedded) as url:
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
        each = {"CoordinatorActor": 2, "ExtractorActor": 2, "WriterActor": 2}
        wait_until(lambda: Counter(cluster.actors(0)) == each | {"CommonsActor": 1}, what="two workers, one commons")
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


def test_all_of_jobs_as_ray_jobs(cluster: Cluster, site: Site, devnet: Devnet) -> None:
    """The outcome of a Ray job is the exit code of what it ran; one that is stopped has the time to drain."""
    token = {"Authorization": f"Bearer {cluster.env['RAY_AUTH_TOKEN']}"}
    rays = JobSubmissionClient(cluster.dashboard, headers=token)
    configured = ("--config", str(site.config))
    wait_until(lambda: takes_jobs(rays), AGENT_SECS, "Ray's job agent")
    lasting = [
        submit(rays, "worker", *configured, "--node-id", "ray-job"),
        submit(rays, "fleet", *configured, "--node-prefix", "ray-"),
    ]
    names = {"ray-job", "ray-head"}
    with site.client() as client:
        try:
            wait_until(lambda: names <= {row.node_id for row in client.workers() if row.alive}, AGENT_SECS, "both")
            common = (*configured, "--rpc", devnet.url, "--network", "devnet", "--quiet")
            code, said = ended(rays, submit(rays, "backfill", *common, "--blocks", "0:101", "--json"))
            assert code == 0, said
            summary = next(json.loads(line) for line in said.splitlines() if line.startswith("{"))
            assert (summary["blocks"], summary["holes"]) == (101, [])
            others = [
                submit(rays, "check", *configured, "_/devnet"),
                submit(rays, "verify", *configured, "_/devnet", "--quiet"),
                submit(rays, "backfill", *common, "--blocks", "0:1M"),
                submit(rays, "check", *configured, "_/nobodys"),
            ]
            outcomes = [ended(rays, job) for job in others]
            assert [code for code, _ in outcomes] == [0, 0, 1, 1], outcomes
            assert "beyond" in outcomes[2][1]
        finally:
            for job in lasting:
                rays.stop_job(job)
        wait_until(lambda: all(rays.get_job_status(job).is_terminal() for job in lasting), what="the end of both")
        assert {row.node_id for row in client.workers() if row.ended} >= names


def takes_jobs(rays: JobSubmissionClient) -> bool:
    """Whether Ray would run a job."""
    try:
        return ended(rays, rays.submit_job(entrypoint="true"))[0] == 0
    except RuntimeError:
        return False


def submit(rays: JobSubmissionClient, script: str, *arguments: str) -> str:
    """Submit one of our scripts as they say it themselves; the Ray job's id."""
    brought = {"working_dir": str(REPO / "jobs"), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}
    return rays.submit_job(entrypoint=shlex.join([sys.executable, f"{script}.py", *arguments]), runtime_env=brought)


def ended(rays: JobSubmissionClient, job: str) -> tuple[int | None, str]:
    """The exit code of a Ray job, once it has ended, and what it said."""
    wait_until(lambda: rays.get_job_status(job).is_terminal(), AGENT_SECS, "the end of a Ray job")
    return rays.get_job_info(job).driver_exit_code, rays.get_job_logs(job)


def test_the_notebook_about_a_cluster(cluster: Cluster, embedded: Server, devnet: Devnet, tmp_path: Path) -> None:
    """Its kernel has the configuration and nothing of Ray; the job runs on the cluster."""
    with fresh_database(embedded) as url:
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
    with fresh_database(embedded) as url, run_devnet(LONG) as chain:
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
