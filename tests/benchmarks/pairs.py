"""The same Node ID started twice in the same moment: one of the two lives, the other says so and ends."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampd_ray.errors import NodeInUse
from tests.benchmarks.stage import NEVER, Stage, is_up, kill, seconds, stage
from tests.fakes.cluster import Cluster, cluster
from tests.fakes.site import wait_until
from tests.fakes.worker import UP_SECS
from tests.servers import Server

AT_A_TIME = 2
LOCK_TIMEOUT_SECS = 1.0
BEATS = 3  # of the survivor, after the other has gone
CPUS = 4


@dataclass(frozen=True)
class Pair:
    """What became of two: exit codes of those that ended by themselves, how many lived on, and after how long."""

    codes: tuple[int, ...]
    alive: int
    beats: int
    epoch: int
    secs: float

    @property
    def good(self) -> bool:
        """True if one lives, beats and was the only one that ever held the node."""
        return (self.codes, self.alive, self.epoch) == ((NodeInUse.exit_code,), 1, 1) and self.beats >= BEATS


def measure(server: Server, runs: int) -> dict[str, Any]:
    """Start pairs on one Ray cluster, so that a start is cheap; returns the record."""
    done: list[Pair] = []
    with (
        _ray() as ray,
        stage(server, [], segment_bytes=NEVER, node_lock_timeout_secs=LOCK_TIMEOUT_SECS) as here,
        ThreadPoolExecutor(AT_A_TIME) as lanes,
    ):
        for pair in lanes.map(lambda number: _pair(here, ray, f"w{number}"), range(runs)):
            done.append(pair)
            print(f"{len(done)}/{runs} {pair}", flush=True)
    return {
        "benchmark": "pairs",
        "pairs": len(done),
        "one_survives": sum(pair.good for pair in done),
        "wrong": [str(pair) for pair in done if not pair.good],
    } | seconds([pair.secs for pair in done])


@contextmanager
def _ray() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as directory,
        cluster(Path(directory), ray_nodes=1, cpus=CPUS) as running,
    ):
        yield running


def _pair(here: Stage, ray: Cluster, node_id: str) -> Pair:
    begun = time.monotonic()
    two = [here.start(node_id, "--address", ray.address, **ray.env) for _ in range(2)]
    try:
        wait_until(
            lambda: any(is_up(worker) for worker in two) and any(worker.process.poll() is not None for worker in two),
            UP_SECS,
            f"one of two {node_id} up and the other gone",
        )
        secs = time.monotonic() - begun
        beats = _beats(here, node_id)
        codes = tuple(code for worker in two if (code := worker.process.poll()) is not None)
        ((epoch,),) = here.rows("select epoch from ampd_ray.node_lease where node_id = %s", node_id)
        return Pair(codes, sum(is_up(worker) for worker in two), beats, epoch, secs)
    finally:
        for worker in two:
            kill(worker)


def _beats(here: Stage, node_id: str) -> int:
    """Wait for some beats; how many there were."""
    seen = set()

    def enough() -> bool:
        seen.update(here.rows("select heartbeat_at from workers where node_id = %s", node_id))
        return len(seen) > BEATS

    wait_until(enough, what=f"beats of {node_id}")
    return len(seen) - 1
