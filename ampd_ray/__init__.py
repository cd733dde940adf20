"""``ampd worker`` as an actor system on Ray: block ranges from JSON-RPC nodes become Parquet that Amp reads.

The packages, from the top down; each imports only what stands below it (import-linter holds them to it):

=============  ====================================================================================================
cli            ``ampd``: parse, call, print, exit code
client         notebooks and scripts: providers, datasets, jobs, backfills; over Postgres, without Ray
controller     which worker gets a job, and when a failed one is tried again
actors         the only importers of Ray: coordinator, extractor, writer, the pools; where they stand (``placement``),
               how many there are (``crew``, ``commons``), Ray nodes that go (``draining``), who may come in (``door``)
node           one Amp node: identity, heartbeat, notifications, what to do about each job (``state`` decides), how
               many extractors it wants (``scaling``), who gets them (``sharing``); one on each machine (``fleet``)
materialize    one job: what is missing (``plan``), who does it (``state``), extract, assemble, write; sweep and check
metadb         the metadata database: typed verbs, each module with its .sql beside it; roles; the embedded Postgres
providers      where blocks come from: provider files, JSON-RPC over HTTP, WebSocket and IPC
clouds         the machine that a process runs on: the notice that a cloud takes it away
devnet         a local chain to try things on
store          where files live: a directory or an object store behind one interface (``files``)
datasets       what is extracted: manifests, names, and the EVM tables decoded column by column (pure)
chain          what a chain is: spans, links, segments, the canonical chain and its gaps (pure)
config         Amp's TOML, ``AMP_CONFIG_*`` and our ``[ampd_ray]``; what of it may go through Ray (``sealed``)
failpoints     named points at which the environment can make a process fail on purpose
errors, log    errors that carry their handling; structured logs without secrets
=============  ====================================================================================================

Postgres is the only truth: nothing in Ray is worth saving, and every plan is computed from the rows.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ampd_ray.client import Client, Job, Summary, aio, backfill, connect, inspect, local
    from ampd_ray.client.coverage import Coverage
    from ampd_ray.client.current import dataset, job, jobs
    from ampd_ray.client.dataset import Dataset
    from ampd_ray.client.missing import MissingBlocks
    from ampd_ray.client.plans import Plan, plan
    from ampd_ray.client.progress import Progress
    from ampd_ray.client.snapshot import Failure
    from ampd_ray.errors import (
        AmpdError,
        BeyondHead,
        ConfigError,
        DatabaseFault,
        DatabaseRefused,
        DatabaseUnavailable,
        ExtraMissing,
        InvalidDescriptor,
        InvalidName,
        InvalidQuery,
        InvalidRange,
        JobConflict,
        JobFailed,
        NodeInUse,
        NotFound,
        NothingThere,
        ObjectMissing,
        ProviderError,
        ProviderUnreachable,
        SchedulerError,
        SchemaMismatch,
        SessionClosed,
        SoloFailed,
        StoreError,
        UnsupportedJobKind,
        WorkerNotAvailable,
        WrongChain,
    )

__version__ = "0.1.0"

__all__ = [
    "AmpdError",
    "BeyondHead",
    "Client",
    "ConfigError",
    "Coverage",
    "DatabaseFault",
    "DatabaseRefused",
    "DatabaseUnavailable",
    "Dataset",
    "ExtraMissing",
    "Failure",
    "InvalidDescriptor",
    "InvalidName",
    "InvalidQuery",
    "InvalidRange",
    "Job",
    "JobConflict",
    "JobFailed",
    "MissingBlocks",
    "NodeInUse",
    "NotFound",
    "NothingThere",
    "ObjectMissing",
    "Plan",
    "Progress",
    "ProviderError",
    "ProviderUnreachable",
    "SchedulerError",
    "SchemaMismatch",
    "SessionClosed",
    "SoloFailed",
    "StoreError",
    "Summary",
    "UnsupportedJobKind",
    "WorkerNotAvailable",
    "WrongChain",
    "__version__",
    "aio",
    "backfill",
    "connect",
    "dataset",
    "inspect",
    "job",
    "jobs",
    "local",
    "plan",
]

_HOMES = {
    "Client": "ampd_ray.client.session",
    "Coverage": "ampd_ray.client.coverage",
    "Dataset": "ampd_ray.client.dataset",
    "Failure": "ampd_ray.client.snapshot",
    "Job": "ampd_ray.client.job",
    "MissingBlocks": "ampd_ray.client.missing",
    "Plan": "ampd_ray.client.plans",
    "Progress": "ampd_ray.client.progress",
    "Summary": "ampd_ray.client.summary",
    **dict.fromkeys(("backfill", "connect", "dataset", "inspect", "job", "jobs", "local"), "ampd_ray.client.current"),
    "plan": "ampd_ray.client.plans",
}  # all others are errors


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: ``ampd --help`` needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "aio":
        return import_module("ampd_ray.client.aio")
    return getattr(import_module(_HOMES.get(name, "ampd_ray.errors")), name)


def __dir__() -> list[str]:
    """What a shell completes."""
    return __all__
