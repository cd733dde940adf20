"""``ampd worker`` as an actor system on Ray: block ranges from JSON-RPC nodes become Parquet that Amp reads.

The packages, from the top down; each imports only what stands below it (import-linter holds them to it):

=============  ====================================================================================================
cli            ``ampd``: parse, call, print, exit code
client         notebooks and scripts: providers, datasets, jobs, backfills; over Postgres, without Ray
controller     which worker gets a job, and when a failed one is tried again
actors         the only importers of Ray: coordinator, extractor, writer, the pools, the driver of a worker
node           one Amp node: identity, heartbeat, notifications, what to do about each job (``state`` decides)
materialize    one job: what is missing (``plan``), who does it (``state``), extract, assemble, write; sweep and check
metadb         the metadata database: typed verbs, each module with its .sql beside it; the embedded Postgres
providers      where blocks come from: provider files, JSON-RPC over HTTP, WebSocket and IPC
store          where files live
devnet         a local chain to try things on
datasets       what is extracted: manifests, names, and the EVM tables decoded column by column (pure)
chain          what a chain is: spans, links, segments, the canonical chain and its gaps (pure)
config         Amp's TOML, ``AMP_CONFIG_*`` and our ``[ampd_ray]``
failpoints     named points at which the environment can make a process fail on purpose
errors, log    errors that carry their handling; structured logs without secrets
=============  ====================================================================================================

Postgres is the only truth: nothing in Ray is worth saving, and every plan is computed from the rows.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ampd_ray.client import Client, Job, Summary, backfill, connect, inspect, local
    from ampd_ray.client.current import job, jobs

__version__ = "0.1.0"

_HOMES = {
    "ampd_ray.client": ("Client", "Job", "Summary"),
    "ampd_ray.client.current": ("backfill", "connect", "inspect", "job", "jobs", "local"),
}

__all__ = ["Client", "Job", "Summary", "__version__", "backfill", "connect", "inspect", "job", "jobs", "local"]


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: ``ampd --help`` needs none of them."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
