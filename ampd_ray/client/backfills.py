"""One call from an RPC URL and a block range to a job that extracts it.

The dataset is named after the network and starts at the range's first block, so the same range always means the same
files: running a backfill again resumes it, and a longer range extends it.
"""

from __future__ import annotations

from ampd_ray.client.job import Job
from ampd_ray.client.prepare import prepared, started
from ampd_ray.client.request import BackfillRequest
from ampd_ray.client.session import Client


async def begin(client: Client, request: BackfillRequest) -> Job:
    """The job of a backfill, as a coroutine for the session's loop."""
    return await started(await prepared(client, request))
