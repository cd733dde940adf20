"""How soon a warm worker marks a job as RUNNING, and asks its provider for the first block."""

from __future__ import annotations

import time
from typing import Any, Final

from ampd_ray.client import Client
from ampd_ray.metadb.statuses import JobStatus
from tests.benchmarks.backfill import load_server
from tests.benchmarks.figures import milliseconds
from tests.fakes.http import fetch
from tests.fakes.site import register

BLOCKS: Final = 4  # of each job
NETWORK: Final = "light"
WARM_JOBS: Final = 2
PATIENCE_SECS: Final = 120.0


def measure(client: Client, jobs: int) -> dict[str, Any]:
    """Run jobs one after another, each into a dataset of its own; prints nothing, returns the figures."""
    with load_server("light", BLOCKS) as url:
        client.add_provider(NETWORK, kind="evm-rpc", network=NETWORK, url=url)
        starts = [_start(client, url, f"start_{number}") for number in range(WARM_JOBS + jobs)][WARM_JOBS:]
    running, first_request = zip(*starts, strict=True)
    return {"jobs": jobs} | {
        "scheduled_to_running_ms": milliseconds(running),
        "notified_to_first_block_asked_ms": milliseconds(first_request),
    }


def _start(client: Client, url: str, dataset: str) -> tuple[float, float]:
    """Seconds from SCHEDULED to RUNNING by the database's clock, and from the NOTIFY to the first full block."""
    descriptor = register(client, dataset, NETWORK).model_copy(update={"end_block": str(BLOCKS - 1)})
    began = time.monotonic()
    job = client.deploy(descriptor)
    notified = time.monotonic()
    assert job.outcome(PATIENCE_SECS).status is JobStatus.COMPLETED
    at = {event.event_type: event.created_at for event in job.events()}
    asked = min(each for each in fetch(f"{url}/timeline")["asked"] if each > began)
    return (at["RUNNING"] - at["SCHEDULED"]).total_seconds(), asked - notified
