"""A backfill that was done before, told from the database alone."""

from __future__ import annotations

from pathlib import Path

from ampd_ray.client.prepare import slug_of
from ampd_ray.client.request import BackfillRequest, Probe
from ampd_ray.client.solo import inspect
from ampd_ray.client.solo_lock import runs_in
from ampd_ray.client.summary import Summary
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.datasets.tables import TABLES
from ampd_ray.errors import AmpdError
from ampd_ray.metadb.statuses import JobStatus


def done_before(directory: Path, request: BackfillRequest, found: Probe) -> tuple[Summary, str] | None:
    """What a solo environment that does not run holds, if it was asked for just these blocks and has all of them.

    With its data directory. Starts no worker. None wherever there may be anything to do, or it cannot be told.
    """
    if request.checked().is_relative or request.verify or not directory.is_dir() or runs_in(directory):
        return None
    network, span, tables = request.network_of(found), request.resolved(found), request.tables or TABLES
    try:
        with inspect(directory) as client:
            dataset = client.dataset(f"_/{slug_of(network)}@dev")
            job = dataset.job()
            if job is None or job.status() is not JobStatus.COMPLETED:
                return None
            if dataset.manifest.hash != evm_rpc_manifest(network, span.start).hash or job.span != span:
                return None
            summary = job.summary()
            if summary.holes or set(job.tables) != set(tables):
                return None
            return summary, client.settings.data_dir
    except AmpdError:  # whoever starts the environment says it better
        return None
