"""One call from an RPC URL and a block range to a job that extracts it.

The dataset is named after the network and starts at the range's first block, so the same range always means the same
files: running a backfill again resumes it, and a longer range extends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ampd_ray.chain.ranges import Span, subtract
from ampd_ray.client.job import Job
from ampd_ray.client.prepare import Prepared, prepare
from ampd_ray.client.request import BackfillRequest
from ampd_ray.client.session import Client
from ampd_ray.client.summary import Summary, committed, holes, rows_within
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb.jobs import JobStatus
from ampd_ray.metadb.progress import JobProgress, ReportedProgress


@dataclass(frozen=True)
class Backfill:
    """A backfill that was started. ``dataset`` names the manifest by its hash, so that it means these files for good.

    ``covered_before``: how many blocks of ``span`` were there when it was started. ``provider``: the name of the
    provider's file; ``other_provider``: the job was at work already and goes on with this one instead.
    """

    client: Client = field(repr=False)
    job: Job
    dataset: DatasetRef
    network: str
    span: Span
    tables: tuple[str, ...]
    covered_before: int
    provider: str
    other_provider: str | None = None
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
        aside = [Span(hole.block, hole.block) for hole in self.job.holes()]
        reported = self.progress()
        return Summary(
            dataset=self.dataset.dataset,
            network=self.network,
            start=self.span.start,
            end=self.span.end,
            blocks=len(self.span) - sum(map(len, lacking)),
            rows=rows_within(self.client, found, self.span, self.tables),
            files=sum(table.files for table in found.values()),
            bytes=sum(table.bytes for table in found.values()),
            retries=reported.retries if reported else 0,
            holes=lacking,
            quarantined=len(aside) - sum(map(len, subtract(aside, lacking))),
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
    verify: bool | Literal["full"] = False,
) -> Backfill:
    """Start extracting ``blocks`` (``"15M:16M"``, ``"0:+1000"``, ``"-1000:"``; the end is excluded); returns at once.

    ``verify`` as in :class:`BackfillRequest`. The same call again resumes. An interrupt before it returns stops the job
    as well. Raises ``InvalidRange``,
    ``InvalidName``, a ``ProviderError``, ``JobConflict`` (the dataset is being filled with another range) or
    ``SchedulerError`` (no worker).
    """
    chosen = None if tables is None else tuple(tables)
    prepared = prepare(client, BackfillRequest(rpc, blocks, network, chosen, writers, verify))
    try:
        return start(prepared)
    except KeyboardInterrupt:
        job = prepared.active_job()
        if job is not None:
            job.stop()
        raise


def start(prepared: Prepared) -> Backfill:
    """Deploy its job; raises as :func:`backfill`. Interrupted, it may have done so: ask ``active_job``."""
    return joined(prepared, prepared.deploy())


def joined(prepared: Prepared, job: Job) -> Backfill:
    """The backfill that ``job`` carries out."""
    used = job.descriptor().provider
    return Backfill(
        client=prepared.client,
        job=job,
        dataset=prepared.dataset,
        network=prepared.network,
        span=prepared.span,
        tables=prepared.tables,
        covered_before=prepared.covered,
        provider=prepared.provider,
        other_provider=None if used == prepared.provider else used or "any of its network",
        _stale=job.progress(),
    )
