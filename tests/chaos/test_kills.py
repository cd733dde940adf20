"""Kill a worker with -9 at random points of a backfill, again and again; then have a stranger look at the result."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.places import REPO
from tests.fakes.site import Site, empty_database, make_site, register, wait_until
from tests.fakes.worker import Worker, end_all
from tests.servers import Server

ROUNDS = int(os.environ.get("AMPD_CHAOS_ROUNDS", "2"))
SEED = int(os.environ.get("AMPD_CHAOS_SEED", "1"))
BLOCKS_A_ROUND = 400
WRITERS = 2
pytestmark = pytest.mark.timeout(120 + 60 * ROUNDS)


def test_a_backfill_survives_kills(tmp_path: Path, embedded: Server) -> None:
    """Each round puts blocks on the chain and kills the worker somewhere in them, so that no kill comes too late."""
    rng = random.Random(SEED)
    last = BLOCKS_A_ROUND * (ROUNDS + 1)
    kills, epochs = 0, []
    left: list[psutil.Process] = []
    with empty_database(embedded) as url, run_devnet() as chain:
        site = make_site(tmp_path / "site", url, chain.url, writer={"bytes": 4096})
        worker = Worker(site, "worker-1").up()
        try:
            with site.client() as client:
                descriptor = register(client, "eth")
                job = client.deploy(descriptor.model_copy(update={"end_block": str(last), "max_writers": WRITERS}))
                for number in range(ROUNDS):
                    target = BLOCKS_A_ROUND * number + rng.randrange(BLOCKS_A_ROUND)
                    chain.mine(BLOCKS_A_ROUND)
                    wait_until(lambda target=target: covered(site) >= target, what=f"{target} blocks")  # type: ignore[misc]
                    tree = worker.kill()
                    if rng.random() < 0.5:
                        end_all(tree)  # at once, else each notices by itself, while the next worker starts
                    left += tree
                    kills += 1
                    epochs.append(epoch(site))
                    assert job.status() is JobStatus.RUNNING
                    worker = Worker(site, "worker-1").up()
                chain.mine(BLOCKS_A_ROUND)
                assert job.wait(120).status is JobStatus.COMPLETED
        finally:
            worker.end()
            end_all(left)
        found = looked_at(url, last)
    print(f"seed {SEED}: {kills} kills, {found['files']} files, epochs {found['epochs']}")
    assert kills == ROUNDS > 0
    assert epochs == list(range(1, ROUNDS + 1))
    assert found["problems"] == []


def covered(site: Site) -> int:
    """Blocks in committed files."""
    with psycopg.connect(site.url) as connection:
        row = connection.execute("select sum(upper(blocks) - lower(blocks)) / 3 from ampd_ray.segment").fetchone()
    return int(row[0] or 0) if row else 0


def epoch(site: Site) -> int:
    """The node's epoch: one more for each process that ever ran it."""
    with psycopg.connect(site.url) as connection:
        row = connection.execute("select epoch from ampd_ray.node_lease where node_id = 'worker-1'").fetchone()
    return int(row[0]) if row else 0


def looked_at(url: str, last: int) -> dict[str, Any]:
    """What the checker says, in a process of its own."""
    command = [sys.executable, "-m", "tests.chaos.check", url, "_/eth", "0", str(last)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=REPO)
    assert done.stdout, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said
