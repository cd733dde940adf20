"""One call from an RPC URL and a block range to a job that extracts it.

The dataset is named after the network and starts at the range's first block, so the same range always means the same
files: running a backfill again resumes it, and a longer range extends it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ampd_ray.chain.expression import RangeExpr, parse_range
from ampd_ray.chain.ranges import Span, merge, subtract
from ampd_ray.client.job import Job
from ampd_ray.client.session import Client
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import TABLES, evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import AmpdError, InvalidName, InvalidRange, NotFound
from ampd_ray.metadb import files, revisions
from ampd_ray.metadb.jobs import JobRow
from ampd_ray.providers.evm_rpc import EvmRpcSource, Head
from ampd_ray.providers.registry import ProviderConfig

# The networks that people run backfills on, by chain id; any other one is called chain_<id>.
NETWORKS = {
    1: "mainnet",
    10: "optimism",
    56: "bsc",
    100: "gnosis",
    130: "unichain",
    137: "polygon",
    324: "zksync",
    480: "worldchain",
    1337: "devnet",
    8453: "base",
    31337: "anvil",
    42161: "arbitrum_one",
    43114: "avalanche",
    59144: "linea",
    84532: "base_sepolia",
    534352: "scroll",
    11155111: "sepolia",
}


@dataclass(frozen=True)
class BackfillRequest:
    """What to extract. ``blocks`` is a range text (``ampd_ray.chain.expression``), its end excluded."""

    rpc: str
    blocks: str
    network: str | None = None
    tables: tuple[str, ...] | None = None
    writers: int = 1
    verify: bool = False
    auth_token: str | None = None

    def checked(self) -> RangeExpr:
        """The parsed range; raises ``InvalidRange`` or ``InvalidName`` before anything is started."""
        unknown = sorted(set(self.tables or ()) - set(TABLES))
        if unknown:
            raise InvalidName(f"there is no table {unknown[0]!r}; the tables are {', '.join(TABLES)}")
        return parse_range(self.blocks)

    def resolved(self, found: Probe) -> Span:
        """The blocks that the range means at the provider's head; ``InvalidRange`` if it reaches beyond that."""
        head = found.head.number
        span = parse_range(self.blocks).resolve(head)
        if span.end > head:
            raise InvalidRange(
                f"range {self.blocks!r} ends at block {span.end}, but the provider's head is {head}. "
                f"Ask for less, e.g. --blocks {min(span.start, head)}:latest, or deploy a job that follows the head."
            )
        return span


@dataclass(frozen=True)
class Probe:
    """What the provider says of itself."""

    chain_id: int
    head: Head


@dataclass(frozen=True)
class Backfill:
    """A backfill that was started: its job, and how much of its span was covered before."""

    job: Job
    dataset: DatasetRef
    manifest_hash: str
    network: str
    span: Span
    covered_before: int


@dataclass(frozen=True)
class Summary:
    """What a backfill's range holds now; ``holes`` are the blocks that some table lacks."""

    dataset: str
    network: str
    start: int
    end: int
    blocks: int
    rows: dict[str, int]
    files: int
    bytes: int
    retries: int
    holes: list[Span] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The last line of ``ampd backfill --json``."""
        return {
            "dataset": self.dataset,
            "network": self.network,
            "start": self.start,
            "end": self.end,
            "blocks": self.blocks,
            "rows": self.rows,
            "files": self.files,
            "bytes": self.bytes,
            "retries": self.retries,
            "holes": [[hole.start, hole.end] for hole in self.holes],
            "seconds": round(self.seconds, 3),
        }


def probe(request: BackfillRequest) -> Probe:
    """Ask the provider for its chain and head; raises a ``ProviderError`` within seconds."""
    config = ProviderConfig(name="backfill", network=request.network or "unknown", **_keys(request))

    async def ask() -> Probe:
        source = EvmRpcSource(config)
        try:
            await source.start()
            return Probe(await source.chain_id(), await source.head("latest"))
        finally:
            await source.close()

    return asyncio.run(ask())


def network_of(request: BackfillRequest, found: Probe) -> str:
    """The network's name: as asked, or by the chain id."""
    return request.network or NETWORKS.get(found.chain_id, f"chain_{found.chain_id}")


def backfill(client: Client, request: BackfillRequest, found: Probe | None = None) -> Backfill:
    """Register provider and dataset, deploy the job; returns at once.

    Raises ``InvalidRange``, a ``ProviderError``, ``JobConflict`` (the dataset is being filled with another range) or
    ``SchedulerError`` (no worker).
    """
    request.checked()
    found = found or probe(request)
    network = network_of(request, found)
    slug = re.sub(r"[^a-z0-9_]", "_", network.lower())
    slug = slug if re.match(r"[a-z_]", slug) else f"_{slug}"
    ref = DatasetRef("_", slug)
    client.add_provider(slug, replace=True, kind="evm-rpc", network=network, **_keys(request))
    span = _unfinished(client, ref, request) or request.resolved(found)
    manifest_hash = client.register_dataset(ref, evm_rpc_manifest(network, span.start))
    covered = _coverage(client, ref, manifest_hash, span, request.tables)
    job = client.deploy(
        JobDescriptor.of(
            ref,
            manifest_hash,
            end_block=str(span.end),
            max_writers=request.writers,
            verify=request.verify,
            tables=request.tables,
            requested=request.blocks,
        )
    )
    return Backfill(job, ref, manifest_hash, network, span, covered)


def summarise(client: Client, run: Backfill, tables: Sequence[str] | None = None, seconds: float = 0.0) -> Summary:
    """What is committed of the backfill's range, by the rows of the database."""
    wanted = tuple(tables or TABLES)

    async def ask() -> dict[str, files.TableSummary]:
        async with client.db.connection() as conn:
            found = await revisions.active_revisions(conn, run.dataset.namespace, run.dataset.name, run.manifest_hash)
            ids = [revision.location_id for table, revision in found.items() if table in wanted]
            return await files.summary(conn, ids, run.span) if ids else {}

    found = client.run(ask())
    holes = _holes(run.span, [found[table].covered if table in found else () for table in wanted])
    reported = run.job.progress()
    return Summary(
        dataset=f"{run.dataset.namespace}/{run.dataset.name}",
        network=run.network,
        start=run.span.start,
        end=run.span.end,
        blocks=len(run.span) - sum(len(hole) for hole in holes),
        rows={table: found[table].rows if table in found else 0 for table in wanted},
        files=sum(table.files for table in found.values()),
        bytes=sum(table.bytes for table in found.values()),
        retries=reported.progress.retries if reported else 0,
        holes=holes,
        seconds=seconds,
    )


def _keys(request: BackfillRequest) -> dict[str, Any]:
    keys: dict[str, Any] = {"url": request.rpc}
    if request.auth_token:
        keys["auth_token"] = request.auth_token
    return keys


def _unfinished(client: Client, ref: DatasetRef, request: BackfillRequest) -> Span | None:
    """A relative range means what it meant when an unfinished backfill with the same text was started."""
    if not parse_range(request.blocks).is_relative:
        return None
    for row in client.jobs():
        span = _same_request(client, row, ref, request)
        if span is not None:
            return None if row.status == "COMPLETED" else span
    return None


def _same_request(client: Client, row: JobRow, ref: DatasetRef, request: BackfillRequest) -> Span | None:
    try:
        descriptor = JobDescriptor.parse(json.dumps(row.descriptor))
    except AmpdError:  # somebody else's job
        return None
    if descriptor.requested != request.blocks or descriptor.end_block is None:
        return None
    if (descriptor.dataset_namespace, descriptor.dataset_name) != (ref.namespace, ref.name):
        return None
    try:
        manifest = client.manifest(DatasetRef(ref.namespace, ref.name, descriptor.manifest_hash))
    except NotFound:
        return None
    return Span(manifest.start_block, int(descriptor.end_block))


def _coverage(
    client: Client, ref: DatasetRef, manifest_hash: str, span: Span, tables: Sequence[str] | None
) -> int:  # fmt: skip
    """How many blocks of ``span`` all tables have already."""
    run = Backfill(Job(client, 0), ref, manifest_hash, "", span, 0)
    return summarise(client, run, tables).blocks


def _holes(span: Span, covered: Sequence[Sequence[Span]]) -> list[Span]:
    """The blocks of ``span`` that at least one table lacks."""
    return merge([hole for spans in covered for hole in subtract(span, list(spans))])
