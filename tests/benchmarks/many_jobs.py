"""Many jobs at once on one worker: all of them complete, and its node goes on beating."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from ampd_ray.metadb.statuses import JobStatus
from tests.benchmarks.backfill import WARM_BLOCKS, load_server, place, warm
from tests.benchmarks.idle import BEATS, Seen
from tests.benchmarks.usage import watched
from tests.fakes.site import register, wait_until

MIX: Final = "tiny"
WITHIN_SECS: Final = 600.0
STATUSES: Final = "select status from jobs_status where job_id = any(%s)"


def ended(connection: psycopg.Connection[Any], job_ids: Sequence[int]) -> list[str]:
    """The last statuses of these jobs; none until all have ended."""
    found = [str(status) for (status,) in connection.execute(STATUSES, [list(job_ids)])]
    return found if all(JobStatus(status).terminal for status in found) else []


def measure(jobs: int, blocks: int) -> dict[str, Any]:
    """Deploy so many jobs of so many blocks, each of a dataset of its own; returns the record."""
    seen = Seen()
    with place() as amp_dir, load_server(MIX, WARM_BLOCKS + jobs + blocks) as url, warm(amp_dir, url) as client:
        client.add_provider("many", kind="evm-rpc", network="many", url=url)
        # From another block each, since datasets with the same manifest are rare.
        asked = [
            register(client, f"many_{first}", "many", first).model_copy(update={"end_block": str(first + blocks - 1)})
            for first in range(jobs)
        ]
        dsn = client.settings.metadata_db.dsn()
        with psycopg.connect(dsn, autocommit=True) as connection, watched(amp_dir) as usage:
            began = time.monotonic()
            ids = [client.deploy(descriptor).id for descriptor in asked]
            deployed = time.monotonic() - began

            def look() -> list[str]:
                seen.look(connection.execute(BEATS))
                return ended(connection, ids)

            statuses = wait_until(look, WITHIN_SECS, "the end of all jobs")
            wall = time.monotonic() - began
    record = {
        "jobs": jobs,
        "completed": statuses.count("COMPLETED"),
        "deploy_ms": round(1000 * deployed / jobs, 1),
        "blocks_per_s": round(jobs * blocks / wall, 1),
        "jobs_per_s": round(jobs / wall, 2),
        "cpu_s_a_job": round(usage.cpu_secs / jobs, 3),
        "coordinator_cpu_s_a_job": round(usage.of("Coordinator") / jobs, 4),
        "longest_gap_secs": round(seen.gap, 2),
        "idle_rss_mb": round(usage.idle_bytes / 1e6),
        "peak_rss_mb": round(usage.peak_bytes / 1e6),
    }
    print(record, flush=True)
    return record
