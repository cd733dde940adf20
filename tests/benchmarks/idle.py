"""Workers on a machine whose every core is busy with something else: nobody takes them for dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psutil

from tests.benchmarks.stage import SOON, stage
from tests.servers import Server

NODES = ("north", "south")
LOOK_EVERY_SECS = 0.1
TELL_EVERY_SECS = 30.0
TAKEN_OVER = "select count(*) from job_events where detail ? 'reassigned_from'"
EVENTS = "select count(*) from job_events where event_type not in ('SCHEDULED', 'RUNNING')"
BEATS = "select node_id, heartbeat_at from workers"


@dataclass
class Seen:
    """What was looked at all the while. ``gap``: the longest time between two beats, by the database's clock."""

    gap: float = 0.0
    beats: int = 0
    last: dict[str, datetime] = field(default_factory=dict)

    def look(self, beats: Iterable[tuple[str, datetime]]) -> None:
        """Take the last beat of each node, as ``BEATS`` reads it."""
        for node_id, beat in beats:
            if node_id in self.last and beat > self.last[node_id]:
                self.gap = max(self.gap, (beat - self.last[node_id]).total_seconds())
                self.beats += 1
            self.last[node_id] = beat


def measure(server: Server, minutes: float) -> dict[str, Any]:
    """Let two workers do their jobs beside a burner for each core; returns the record."""
    with stage(server, NODES, segment_bytes=SOON) as here:
        workers = [here.start(node_id) for node_id in NODES]
        for worker in workers:
            worker.up()
            here.deploy(worker.node_id, worker.node_id)
        seen = Seen()
        begun = told = time.monotonic()
        with burning():
            psutil.cpu_percent()
            while time.monotonic() - begun < minutes * 60:
                seen.look(here.rows(BEATS))
                time.sleep(LOOK_EVERY_SECS)
                if time.monotonic() - told >= TELL_EVERY_SECS:
                    told = time.monotonic()
                    print(
                        f"{(told - begun) / 60:.1f} min, {seen.beats} beats, longest gap {seen.gap:.2f} s", flush=True
                    )
            busy = psutil.cpu_percent()
        logs = "".join(worker.log() for worker in workers)
        ended = [worker.process.poll() for worker in workers if worker.process.poll() is not None]
        ((taken,),), ((other,),) = here.rows(TAKEN_OVER), here.rows(EVENTS)
        blocks = sum(len(here.committed(node_id)) for node_id in NODES)
    record = {
        "benchmark": "idle",
        "minutes": minutes,
        "cpu_percent": busy,
        "takeovers": taken,
        "fenced": logs.count("msg=fenced"),
        "leases_lost": logs.count("has lost its leases"),
        "jobs_paused": logs.count("were not renewed in time"),
        "beats": seen.beats,
        "longest_gap_secs": round(seen.gap, 2),
        "blocks": blocks,
    }
    wrong = [f"{name}: {record[name]}" for name in ("takeovers", "fenced", "leases_lost") if record[name]]
    wrong += [f"a worker ended with {code}" for code in ended] + ["a job ended"] * bool(other)
    return record | {"wrong": wrong + ["nothing was committed"] * (blocks == 0)}


@contextmanager
def burning() -> Iterator[None]:
    """A process that never rests for each core."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
