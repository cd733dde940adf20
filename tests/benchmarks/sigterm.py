"""How long a worker takes to end when it is asked to, with a segment that it must not lose."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import psutil

from tests.benchmarks.stage import NEVER, Stage, kill, processes_of, seconds, stage
from tests.fakes.site import wait_until
from tests.fakes.worker import Worker, of_ray_itself
from tests.servers import Server

WORKERS = 3  # at a time: while one ends another starts
LAST_SECS = 3.0  # its actors may end a moment after it


@dataclass(frozen=True)
class Drain:
    """One end: the exit code, after how long, blocks committed by it, and processes that it left behind."""

    code: int
    secs: float
    committed: int
    left: int

    @property
    def good(self) -> bool:
        """True if it ended as it should."""
        return self.code == 0 and self.committed > 0 and self.left == 0


def measure(server: Server, runs: int) -> dict[str, Any]:
    """Start workers, end each in the middle of a segment, again and again; returns the record."""
    networks = [f"chain{number}" for number in range(min(WORKERS, runs))]
    done: list[Drain] = []
    one_at_a_time = Lock()

    def tell(drain: Drain) -> None:
        with one_at_a_time:
            done.append(drain)
            print(f"{len(done)}/{runs} {drain}", flush=True)

    with stage(server, networks, segment_bytes=NEVER, takeover=False) as here, ThreadPoolExecutor(WORKERS) as lanes:

        def lane(number: int) -> None:
            deployed = False
            for _ in range(number, runs, len(networks)):
                tell(_drain(here, networks[number], deploys=not deployed))
                deployed = True

        list(lanes.map(lane, range(len(networks))))
    wrong = [str(drain) for drain in done if not drain.good]
    figures = seconds([drain.secs for drain in done])
    committed = min(drain.committed for drain in done)
    return {"benchmark": "sigterm", "runs": len(done), "committed_min": committed, "wrong": wrong} | figures


def _drain(here: Stage, network: str, *, deploys: bool) -> Drain:
    worker = here.start(network)
    worker.up()
    if deploys:
        here.deploy(network, network)
    wait_until(lambda: here.open(network) > 0, what="an open segment")
    before = here.committed(network)
    asked_at = time.monotonic()
    code = worker.drain(signal.SIGTERM)
    secs = time.monotonic() - asked_at
    left = _left(worker)
    kill(worker)
    return Drain(code, secs, len(here.committed(network) - before), len(left))


def _left(worker: Worker) -> list[psutil.Process]:
    """What does not end with the worker."""
    deadline = time.monotonic() + LAST_SECS
    while left := [process for process in processes_of(worker) if not of_ray_itself(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left
