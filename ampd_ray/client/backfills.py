"""One call from an RPC URL and a block range to a job that extracts it.

The dataset is named after the network and starts at the range's first block, so the same range always means the same
files: running a backfill again resumes it, and a longer range extends it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ampd_ray.chain.expression import parse_range
from ampd_ray.chain.ranges import Span
from ampd_ray.client.job import Job
from ampd_ray.client.request import BackfillRequest, Probe, probe
from ampd_ray.client.session import Client
from ampd_ray.client.summary import Summary, committed, holes
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import TABLES, evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import AmpdError, NotFound
from ampd_ray.metadb.jobs import JobRow, JobStatus
from ampd_ray.metadb.progress import JobProgress, ReportedProgress


@dataclass(frozen=True)
class Backfill:
    """A backfill that was started. ``dataset`` names the manifest by its hash, so that it means these files for good.

    ``covered_before``: how many blocks of ``span`` were there when it was started.
    """

    client: Client = field(repr=False)
    job: Job
    dataset: DatasetRef
    network: str
    span: Span
    tables: tuple[str, ...]
    covered_before: int
    _stale: ReportedProgress | None = field(default=None, repr=False)  # what an earlier run reported last
    _started: float = field(default_factory=time.monotonic, repr=False)

    def wait(
        self, timeout_secs: float | None = None, on_progress: Callable[[JobProgress], None] | None = None
    ) -> Summary:
        """Wait until the job has ended, and sum up; after a stop the summary has holes.

        ``on_progress`` is called several times a second. Raises ``JobFailed`` if the job failed, ``TimeoutError``.
        Ending the wait (Ctrl-C, a kernel's interrupt) does not end the job.
        """

        def pass_on(reported: ReportedProgress | None) -> None:
            if reported is not None and on_progress is not None:
                on_progress(reported.progress)

        self.job.wait(timeout_secs, pass_on if on_progress else None)
        failure = self.job.failure()
        if failure is not None:
            raise failure
        return self.summary()

    def stop(self) -> None:
        """Ask it to stop; complete blocks are committed first. The same backfill again resumes."""
        self.job.stop()

    def status(self) -> JobStatus:
        """The status of its job now."""
        return self.job.status()

    def progress(self) -> JobProgress | None:
        """What its node last reported of this run; None before the first report."""
        reported = self.job.progress()
        if reported is None or (self._stale is not None and reported.updated_at <= self._stale.updated_at):
            return None
        return reported.progress

    def summary(self) -> Summary:
        """What is committed of the range by now."""
        found = committed(self.client, self.dataset, self.span, self.tables)
        lacking = holes(self.span, found, self.tables)
        reported = self.progress()
        return Summary(
            dataset=self.dataset.dataset,
            network=self.network,
            start=self.span.start,
            end=self.span.end,
            blocks=len(self.span) - sum(map(len, lacking)),
            rows={table: found[table].rows if table in found else 0 for table in self.tables},
            files=sum(table.files for table in found.values()),
            bytes=sum(table.bytes for table in found.values()),
            retries=reported.retries if reported else 0,
            holes=lacking,
            seconds=time.monotonic() - self._started,
        )


def backfill(
    client: Client,
    *,
    rpc: str,
    blocks: str,
    network: str | None = None,
    tables: Sequence[str] | None = None,
    writers: int = 1,
    verify: bool = False,
) -> Backfill:
    """Start extracting ``blocks`` (``"15M:16M"``, ``"0:+1000"``, ``"-1000:"``; the end is excluded); returns at once.

    The same call again resumes. Raises ``InvalidRange``, ``InvalidName``, a ``ProviderError``, ``JobConflict`` (the
    dataset is being filled with another range) or ``SchedulerError`` (no worker).
    """
    chosen = None if tables is None else tuple(tables)
    return start(client, BackfillRequest(rpc, blocks, network, chosen, writers, verify))


def start(client: Client, request: BackfillRequest, found: Probe | None = None) -> Backfill:
    """Register provider and dataset, deploy the job; returns and raises as :func:`backfill`."""
    request.checked()
    found = found or probe(request)
    network = request.network_of(found)
    slug = re.sub(r"[^a-z0-9_]", "_", network.lower())
    slug = slug if re.match(r"[a-z_]", slug) else f"_{slug}"
    _provide(client, slug, network, request)
    name = DatasetRef("_", slug)
    span = _unfinished(client, name, request) or request.resolved(found)
    manifest_hash = client.register_dataset(name, evm_rpc_manifest(network, span.start))
    dataset = DatasetRef(name.namespace, name.name, manifest_hash)
    tables = request.tables or TABLES
    lacking = holes(span, committed(client, dataset, span, tables), tables)
    job = client.deploy(
        JobDescriptor.of(
            dataset,
            manifest_hash,
            end_block=str(span.end),
            max_writers=request.writers,
            verify=request.verify,
            tables=request.tables,
            requested=request.blocks,
        )
    )
    covered = len(span) - sum(map(len, lacking))
    return Backfill(client, job, dataset, network, span, tables, covered, job.progress())


def _provide(client: Client, name: str, network: str, request: BackfillRequest) -> None:
    """Write the provider's file, unless it is there and says the same: more may stand in it, a rate limit say."""
    wanted = {"kind": "evm-rpc", "network": network, **request.provider_keys()}
    there = next((listed.config for listed in client.providers() if listed.name == name), None)
    if there is None or not wanted.items() <= there.keys().items():
        client.add_provider(name, replace=True, **wanted)


def _unfinished(client: Client, dataset: DatasetRef, request: BackfillRequest) -> Span | None:
    """A relative range means what it meant when an unfinished backfill with the same text was started."""
    if not parse_range(request.blocks).is_relative:
        return None
    for row in client.jobs():
        span = _same_request(client, row, dataset, request)
        if span is not None:
            return None if row.status == "COMPLETED" else span
    return None


def _same_request(client: Client, row: JobRow, dataset: DatasetRef, request: BackfillRequest) -> Span | None:
    try:
        descriptor = JobDescriptor.parse(json.dumps(row.descriptor))
    except AmpdError:  # somebody else's job
        return None
    if descriptor.requested != request.blocks or descriptor.end_block is None:
        return None
    if descriptor.dataset != dataset.dataset:
        return None
    try:
        manifest = client.manifest(DatasetRef(dataset.namespace, dataset.name, descriptor.manifest_hash))
    except NotFound:
        return None
    return Span(manifest.start_block, int(descriptor.end_block))
