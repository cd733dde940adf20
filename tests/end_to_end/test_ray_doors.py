"""Who comes into a worker's Ray: nobody from another machine; and which clusters a worker does not join."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.devnet import Devnet
from tests.fakes.neighbours import Machine, may_make_networks, neighbours
from tests.fakes.places import REPO
from tests.fakes.process import running
from tests.fakes.raylets import raylets
from tests.fakes.site import Site, make_site
from tests.fakes.worker import AMPD, Worker, environment
from tests.servers import Server, fresh_database

HEALTH = "/grpc.health.v1.Health/Check"
METRICS = "metrics"
SCAN_SECS = 120.0
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def site(tmp_path: Path, embedded: Server, devnet: Devnet) -> Iterator[Site]:
    with fresh_database(embedded) as url:
        yield make_site(tmp_path / "site", url, devnet.url)


def scan(machine: Machine, host: str) -> dict[str, list[str]]:
    """What a program on ``machine`` without a token gets from all ports of ``host``."""
    command = machine.inside(sys.executable, "-m", "tests.fakes.scan", host)
    done = subprocess.run(
        command, cwd=REPO, env=environment(None), capture_output=True, text=True, timeout=SCAN_SECS, check=True
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not may_make_networks(), reason="needs root, for two networks")
def test_nothing_of_a_worker_answers_another_machine(site: Site) -> None:
    """Nor does it answer, without the token, other users of its own."""
    with neighbours() as (its, other):
        worker = Worker(site, "worker-1", ampd=its.inside(str(AMPD)))
        try:
            worker.up()
            page = its.inside(sys.executable, "-u", "-m", "http.server", "--bind", its.host, "0")
            with running(page, r"port (\d+)", env=environment(None)) as told:
                assert set(scan(other, its.host)) == {told[1]}, "but for the page that shows that it can be reached"
            on_loopback = scan(its, "127.0.0.1")
            print(json.dumps(on_loopback, indent=1))
            assert len(on_loopback) > 5, "of Ray's processes each listens there"
            assert {answer for answers in on_loopback.values() for answer in answers} <= {HEALTH, METRICS}
        finally:
            worker.end()


def test_a_cluster_that_asks_for_no_token_is_joined_only_by_who_insists(site: Site) -> None:
    directory = Path(tempfile.mkdtemp(prefix="ampd-", dir="/tmp"))  # sockets' paths are short
    try:
        with raylets(directory, {"RAY_AUTH_MODE": "disabled"}) as cluster:
            cluster.add(cpus=1)
            at = (sys.executable, "-m", "tests.fakes.on_raylet", cluster.host(0))
            told = ["--address", cluster.address]
            has_a_token = cluster.env | {"RAY_AUTH_MODE": "token"}  # which the cluster would not mind
            refused = Worker(site, "worker-1", told, has_a_token, ampd=at)
            assert refused.process.wait(60) == 1
            assert "asks nobody for a token" in refused.log()
            assert cluster.actors(0) == {}
            insisting = has_a_token | {"AMP_CONFIG_AMPD_RAY__INSECURE_RAY": "true"}
            worker = Worker(site, "worker-1", told, insisting, ampd=at)
            try:
                assert worker.up().drain() == 0
            finally:
                worker.end()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
