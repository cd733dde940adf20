"""How long a job stands still when its node dies: its whole machine, or the driver of its worker alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.stage import SOON, Stage, is_up, kill, seconds, stage
from tests.fakes.site import wait_until
from tests.fakes.worker import UP_SECS, Worker
from tests.servers import Server

WORKERS = 3  # one with the job, one that takes it over, one that starts again
MOVED_WITHIN_SECS = 60.0
NETWORK = "devnet"
KINDS = ("machine", "driver")


@dataclass(frozen=True)
class Kill:
    """What one kill cost: ``secs`` to RUNNING elsewhere, and the blocks that were fetched a second time.

    ``committed``: blocks of the files that the killed node had written.
    """

    kind: str
    secs: float
    reason: str
    committed: int
    committed_again: int
    open_again: int


def measure(server: Server, kills: int) -> dict[str, Any]:
    """Kill the node that has the job, again and again; prints as it goes, returns the record."""
    with stage(server, [NETWORK], segment_bytes=SOON) as here:
        done = []
        for each in _kills(here, kills):
            done.append(each)
            print(f"{len(done)}/{kills} {each}", flush=True)
    record: dict[str, Any] = {"benchmark": "takeover", "kills": len(done), "reasons": {}}
    for kind in {each.kind for each in done}:
        of_kind = [each for each in done if each.kind == kind]
        record[kind] = seconds([each.secs for each in of_kind])
        record["reasons"][kind] = sorted({each.reason for each in of_kind})
    again, committed = sum(each.committed_again for each in done), sum(each.committed for each in done)
    return record | {
        "all": seconds([kill_.secs for kill_ in done]),
        "committed": committed,
        "committed_again": again,
        "committed_again_percent": round(100 * again / max(1, committed), 2),
        "open_again_max": max(each.open_again for each in done),
    }


def _kills(here: Stage, count: int) -> Iterator[Kill]:
    workers = {f"w{number}": here.start(f"w{number}") for number in range(WORKERS)}
    workers["w0"].up()
    job = here.deploy(NETWORK, "w0")
    before: set[int] = set()
    for number in range(count):
        _wait_for_the_middle(here, before)
        node_id = _node_of(here, job)
        wait_until(lambda node_id=node_id: _others_up(workers, node_id), UP_SECS, "a worker that could take over")  # type: ignore[misc]
        yield _kill(here, workers[node_id], job, KINDS[number % len(KINDS)], before)
        before = here.committed(NETWORK)
        kill(workers[node_id])  # what a driver leaves behind
        if count - number >= WORKERS:  # else the others are enough
            workers[node_id] = here.start(node_id)


def _wait_for_the_middle(here: Stage, before: set[int]) -> None:
    """Some files are committed, and another has begun."""
    begun = time.monotonic()

    def in_the_middle() -> bool:
        committed = here.committed(NETWORK)
        return len(committed) > len(before) and bool(here.nodes[NETWORK].since(begun) - committed)

    wait_until(in_the_middle, what="work under way")


def _others_up(workers: dict[str, Worker], node_id: str) -> bool:
    return any(is_up(worker) for other, worker in workers.items() if other != node_id)


def _node_of(here: Stage, job: int) -> str:
    ((node_id,),) = here.rows("select node_id from jobs_status where job_id = %s", job)
    return str(node_id)


def _kill(here: Stage, worker: Worker, job: int, kind: str, before: set[int]) -> Kill:
    node = here.nodes[NETWORK]
    last = here.rows("select max(id) from job_events")[0][0]
    killed_at = time.monotonic()
    if kind == "machine":
        kill(worker)
    else:
        worker.process.kill()
    query = "select detail from job_events where job_id = %s and id > %s and detail ? 'reassigned_from'"
    ((detail,),) = wait_until(lambda: here.rows(query, job, last), MOVED_WITHIN_SECS, "the job elsewhere")
    moved_at = time.monotonic()
    committed = here.committed(NETWORK)
    wait_until(lambda: len(here.committed(NETWORK)) > len(committed), what="the job goes on")
    again = node.since(moved_at)
    return Kill(
        kind,
        moved_at - killed_at,
        detail["reason"],
        committed=len(committed - before),
        committed_again=len(again & committed),
        open_again=len(again & node.until(moved_at) - committed),
    )
