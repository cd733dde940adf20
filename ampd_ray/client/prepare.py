"""All that a backfill needs before its job: the provider's file, the dataset, and the blocks that are meant."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ampd_ray.chain.expression import parse_range
from ampd_ray.chain.ranges import Span
from ampd_ray.client.job import Beginning, Job
from ampd_ray.client.job_calls import JobCalls
from ampd_ray.client.request import BackfillRequest, Probe, ask
from ampd_ray.client.session import Client
from ampd_ray.client.summary import committed, holes
from ampd_ray.client.work import descriptor_of, reference
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import Manifest, evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.datasets.tables import TABLES
from ampd_ray.errors import AmpdError, NotFound
from ampd_ray.metadb.jobs import JobRow

if TYPE_CHECKING:
    from ampd_ray.providers.registry import ListedProvider, ProviderConfig


@dataclass(frozen=True)
class Prepared:
    """A backfill that only needs its job. ``dataset`` names the manifest by its hash.

    ``covered``: how many blocks of ``span`` are there already; ``provider``: the name of the provider's file.
    ``before``: what the dataset's name meant before; None if nothing.
    """

    client: Client = field(repr=False)
    descriptor: JobDescriptor
    dataset: DatasetRef
    network: str
    span: Span
    tables: tuple[str, ...]
    covered: int
    provider: str
    before: Manifest | None = None

    def start(self) -> Job:
        """Have it done: schedule the job, or find it at work. Raises ``JobConflict`` or ``SchedulerError``.

        Interrupted, it may have done so: ask ``active_job``.
        """
        return self.client.run(started(self))

    def active_job(self) -> Job | None:
        """The job that does this, if it has not ended; None as well before it was started."""
        for row in self.client.jobs(active_only=True):
            descriptor = _descriptor(row)
            if descriptor is not None and descriptor.same_work(self.descriptor):
                return self.handle(row.job_id, descriptor)
        return None

    def handle(self, job_id: int, descriptor: JobDescriptor) -> Job:
        """The job that does this by ``descriptor``."""
        used = descriptor.provider
        other = None if used == self.provider else used or "any of its network"
        return Job(self.client, job_id, Beginning(self.covered, self.provider, other))


def prepare(client: Client, request: BackfillRequest, found: Probe | None = None) -> Prepared:
    """Register provider and dataset; raises ``InvalidRange``, ``InvalidName`` or a ``ProviderError``."""
    return client.run(prepared(client, request, found))


async def started(ready: Prepared) -> Job:
    """``Prepared.start`` as a coroutine."""
    session = ready.client.calls
    job_id = await session.deploy(ready.descriptor)
    return ready.handle(job_id, await JobCalls(session, job_id).descriptor())


async def prepared(client: Client, request: BackfillRequest, found: Probe | None = None) -> Prepared:
    """``prepare`` as a coroutine for the session's loop."""
    request.checked()
    found = found or await ask(request)
    network = request.network_of(found)
    slug = slug_of(network)
    provider = await asyncio.to_thread(provide, client, slug, network, request)
    name = DatasetRef("_", slug)
    span = await unfinished(client, name, network, request) or request.resolved(found)
    before = await _meant(client, name)
    manifest_hash = await client.calls.register_dataset(name, evm_rpc_manifest(network, span.start))
    dataset = DatasetRef(name.namespace, name.name, manifest_hash)
    descriptor = JobDescriptor.of(
        dataset,
        manifest_hash,
        end_block=str(span.end),
        max_writers=request.writers,
        verify=bool(request.verify),
        verify_level=request.verify if request.verify == "full" else None,
        tables=request.tables,
        requested=request.blocks,
        provider=provider,
        priority=request.priority,
    )
    tables = request.tables or TABLES
    lacking = holes(span, await committed(client.db, dataset, span, tables), tables)
    covered = len(span) - sum(map(len, lacking))
    return Prepared(client, descriptor, dataset, network, span, tables, covered, provider, before)


async def _meant(client: Client, dataset: DatasetRef) -> Manifest | None:
    try:
        return await client.calls.manifest(dataset)
    except NotFound:
        return None


def provide(client: Client, slug: str, network: str, request: BackfillRequest) -> str:
    """The name of a provider's file for this address and network: one that is there, else a new one.

    A file that says the same is used, and more may stand in it, a rate limit say. No file is ever changed: it may be
    somebody's, another network's that looks alike, or what another job is using.
    """
    there = client.providers()
    same = provided(there, slug, network, request)
    if same is not None:
        return same.name
    wanted = _wanted(network, request)
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    name = f"{slug}_{digest[:8]}" if slug in {listed.name for listed in there} else slug
    client.add_provider(name, **wanted)
    return name


def provided(
    there: Iterable[ListedProvider], slug: str, network: str, request: BackfillRequest
) -> ProviderConfig | None:
    """The one of the provider files that says what the request does; that of the network's name before any other."""
    wanted = _wanted(network, request).items()
    same = {each.name: each.config for each in there if each.config and wanted <= each.config.keys().items()}
    return same.get(slug) or next(iter(same.values()), None)


def _wanted(network: str, request: BackfillRequest) -> dict[str, Any]:
    return {"kind": "evm-rpc", "network": network, **request.provider_keys()}


def slug_of(network: str) -> str:
    """The network's name as that of a dataset and a provider's file."""
    slug = re.sub(r"[^a-z0-9_]", "_", network.lower())
    return slug if re.match(r"[a-z_]", slug) else f"_{slug}"


async def unfinished(client: Client, dataset: DatasetRef, network: str, request: BackfillRequest) -> Span | None:
    """A relative range means what it meant when an unfinished backfill with the same text was started."""
    if not parse_range(request.blocks).is_relative:
        return None
    for row in await client.calls.jobs():
        span = await _same_request(client, row, dataset, network, request)
        if span is not None:
            return None if row.status == "COMPLETED" else span
    return None


async def _same_request(
    client: Client, row: JobRow, dataset: DatasetRef, network: str, request: BackfillRequest
) -> Span | None:
    descriptor = _descriptor(row)
    if descriptor is None or descriptor.requested != request.blocks or descriptor.end_block is None:
        return None
    if descriptor.dataset != dataset.dataset:
        return None
    try:
        manifest = await client.calls.manifest(reference(descriptor))
        span = Span(manifest.start_block, int(descriptor.end_block))
    except (AmpdError, ValueError):  # a manifest that cannot be read any more, or no descriptor of ours
        return None
    return span if manifest.network == network else None


def _descriptor(row: JobRow) -> JobDescriptor | None:
    try:
        return descriptor_of(row)
    except AmpdError:  # somebody else's job
        return None
