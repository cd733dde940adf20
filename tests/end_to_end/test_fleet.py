"""Workers of a cluster with stable Ray nodes and others: where their actors stand, and a worker on every stable one."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import ampd_ray
from ampd_ray.client import Client
from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import check
from tests.fakes.devnet import Devnet
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.places import REPO
from tests.fakes.raylets import Raylets, raylets
from tests.fakes.site import Site, ends_as, make_site, register, wait_until
from tests.fakes.worker import Worker
from tests.servers import Server, fresh_database

LAST, MORE = 600, 50  # blocks; the job ends only when a test lets it
HEAD, EXTRACT, ONE, TWO = range(4)  # the raylets
STABLE = {"amp_node": 1.0}
GONE_SECS = 15.0  # from a driver's end to that of its coordinator on another machine
SECS = 90.0
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def cluster() -> Iterator[Raylets]:
    """A head without CPUs, a Ray node for extractors, two that are stable."""
    directory = Path(tempfile.mkdtemp(prefix="ampd-", dir="/tmp"))  # sockets' paths are short
    try:
        with raylets(directory) as running:
            running.add(cpus=0)
            running.add(cpus=1, resources={"extract": 1.0})
            for _stable in (ONE, TWO):
                running.add(cpus=1, resources=STABLE)
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def chain() -> Iterator[Devnet]:
    with run_devnet(LAST - MORE) as running:
        yield running


@pytest.fixture
def site(tmp_path: Path, embedded: Server, chain: Devnet) -> Iterator[Site]:
    wanted: dict[str, Any] = {"min_extractors": 2, "extractor_cpus": 0.5, "extractor_resources.extract": 0.01}
    with fresh_database(embedded) as url:
        yield make_site(tmp_path / "site", url, chain.url, **wanted)


def test_a_worker_on_every_stable_ray_node_and_one_whose_driver_is_elsewhere(
    cluster: Raylets, site: Site, chain: Devnet, tmp_path: Path
) -> None:
    """All drivers are at the head, which no coordinator may be on."""
    name = {number: f"t-{cluster.host(number)}" for number in range(8)}
    fleet = driver(site, cluster, "fleet", "--every-node", "--node-prefix", "t-")
    apart: Worker | None = None
    try:
        with site.client() as client:
            wait_until(lambda: alive(client).keys() == {name[ONE], name[TWO]}, SECS, "a worker on each stable Ray node")
            assert standing(cluster, "CoordinatorActor") == {ONE: 1, TWO: 1}

            job = client.deploy(register(client, "eth").model_copy(update={"end_block": str(LAST)}), name[ONE])
            wait_until(lambda: list(site.data_dir.glob("_/eth/blocks/*/*.parquet")), SECS, "a first file")
            assert standing(cluster, "WriterActor") == {ONE: 1}
            wait_until(lambda: standing(cluster, "ExtractorActor") == {ONE: 1, EXTRACT: 1}, SECS, "both extractors")
            cluster.remove(ONE)
            three = cluster.add(cpus=1, resources=STABLE)
            wait_until(lambda: alive(client).keys() == {name[TWO], name[three]}, SECS, "the one that joined")
            chain.mine(MORE)
            assert ends_as(client, job.id) is JobStatus.COMPLETED

            before = alive(client)
            os.kill(cluster.actors(TWO)["CoordinatorActor"][0].pid, signal.SIGKILL)
            wait_until(lambda: alive(client).get(name[TWO], before[name[TWO]]) > before[name[TWO]], SECS, "it again")
            assert alive(client)[name[three]] == before[name[three]]

            bare = cluster.add(cpus=1, resources=STABLE, env={"PYTHONPATH": str(without_package(tmp_path))})
            wait_until(lambda: f"the Ray node {cluster.host(bare)} has no ampd-ray" in fleet.log(), SECS, "a warning")
            assert fleet.drain() == 0
            assert not standing(cluster, "CoordinatorActor")
            cluster.remove(bare)

            apart = driver(site, cluster, "apart")
            wait_until(lambda: "apart" in alive(client), SECS, "a worker with its driver elsewhere")
            (home,) = standing(cluster, "CoordinatorActor")
            assert home in (TWO, three)
            killed = time.monotonic()
            apart.kill()
            wait_until(lambda: not standing(cluster, "CoordinatorActor"), GONE_SECS, "the coordinator's end")
            print(f"the coordinator ended {time.monotonic() - killed:.1f} s after its driver was killed")
    finally:
        fleet.end()
        if apart is not None:
            apart.end()
    assert check(site.url, "_/eth", 0, LAST) == []
    assert f"pip install ampd-ray=={ampd_ray.__version__}" in fleet.log()


def driver(site: Site, cluster: Raylets, name: str, *arguments: str) -> Worker:
    """A worker's driver at the head, in a directory without our package."""
    ampd = [sys.executable, "-m", "tests.fakes.on_raylet", cluster.host(HEAD)]
    env = {**cluster.env, "PYTHONPATH": str(REPO)}
    return Worker(site, name, ["--address", cluster.address, *arguments], env, ampd=ampd, cwd=site.directory)


def standing(cluster: Raylets, kind: str) -> dict[int, int]:
    """How many actors of a class there are, by raylet."""
    found = {number: len(cluster.actors(number).get(kind, [])) for number in range(cluster.count)}
    return {number: count for number, count in found.items() if count}


def alive(client: Client) -> dict[str, datetime]:
    """When each worker that is alive was registered, by its name."""
    return {row.node_id: row.registered_at for row in client.workers() if row.alive}


def without_package(directory: Path) -> Path:
    """What to put before all other places of packages, so that ours is not found."""
    there = directory / "bare"
    there.mkdir()
    (there / "ampd_ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ampd_ray'\", name='ampd_ray')\n")
    return there
