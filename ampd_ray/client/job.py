"""A handle of one job: watch it, wait for it, stop it, try it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ampd_ray.chain.ranges import Span
from ampd_ray.client.displays import live
from ampd_ray.client.displays.card import card_html
from ampd_ray.client.job_calls import POLL_SECS, JobCalls
from ampd_ray.client.progress import Progress, Rates
from ampd_ray.client.snapshot import Failure, failure_of
from ampd_ray.client.summary import Summary
from ampd_ray.client.work import reference
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import JobFailed
from ampd_ray.metadb.jobs import JobEvent, JobRow
from ampd_ray.metadb.quarantine import Quarantined
from ampd_ray.metadb.statuses import JobStatus

if TYPE_CHECKING:
    from ampd_ray.client.dataset import Dataset
    from ampd_ray.client.session import Client

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Beginning:
    """What a backfill found when it began.

    ``covered``: how many of its blocks were there; ``provider``: the name of the provider's file; ``other_provider``:
    the job was at work already and goes on with this one instead.
    """

    covered: int
    provider: str
    other_provider: str | None = None


class Job:
    """One job, by its id. All else comes from Postgres, so that it can be had anew at any time and anywhere.

    Any call raises ``NotFound`` once the job is removed, ``SessionClosed`` and ``DatabaseUnavailable``.
    """

    def __init__(self, client: Client, job_id: int, beginning: Beginning | None = None):
        self.id = job_id
        self.calls = JobCalls(client.calls, job_id)
        """The same as coroutines, for the session's loop."""
        self._client = client
        self._beginning = beginning

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def _ipython_display_(self) -> None:
        live.show(self, self._client)

    def _repr_html_(self) -> str:
        return card_html(self.progress(), self.rates())

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def dataset(self) -> Dataset:
        """The dataset that it fills, pinned to its manifest: ``job.dataset.scan("logs")``.

        Raises ``InvalidDescriptor`` for a job that is not ours.
        """
        return self._client.dataset(reference(self.descriptor()))

    @property
    def network(self) -> str:
        """The network; raises as ``dataset`` does."""
        return self._client.run(self.calls.work()).network

    @property
    def span(self) -> Span | None:
        """The blocks that it is to extract; None while it follows the head. Raises as ``dataset`` does."""
        return self._client.run(self.calls.work()).span

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that it fills; raises as ``dataset`` does."""
        return self._client.run(self.calls.work()).tables

    @property
    def covered_before(self) -> int | None:
        """How many of its blocks were there when this call of ``amp.backfill`` began; None for other handles."""
        return self._beginning.covered if self._beginning else None

    @property
    def provider(self) -> str | None:
        """The provider's file that this call of ``amp.backfill`` meant; None for other handles."""
        return self._beginning.provider if self._beginning else None

    @property
    def other_provider(self) -> str | None:
        """The job was at work when ``amp.backfill`` was called, and goes on with this provider instead."""
        return self._beginning.other_provider if self._beginning else None

    def descriptor(self) -> JobDescriptor:
        """What it was asked to do, in Amp's words; raises as ``dataset`` does."""
        return self._client.run(self.calls.descriptor())

    # -- how it is ----------------------------------------------------------------------------------------------------

    def row(self) -> JobRow:
        """Its row now."""
        return self._client.run(self.calls.row())

    def status(self) -> JobStatus:
        """Its status now."""
        return self.row().status

    def progress(self) -> Progress:
        """How far it is; true figures at any time of its life, rates only while it runs."""
        return self._client.run(self.calls.progress())

    def rates(self) -> Rates:
        """How fast it was over time, by all of its runs; in a notebook, a plot."""
        return self._client.run(self.calls.rates())

    def summary(self) -> Summary:
        """What is committed of its range by now."""
        return self._client.run(self.calls.summary())

    def events(self) -> list[JobEvent]:
        """Its status changes, oldest first; in a notebook, a table."""
        return self._client.run(self.calls.events())

    def failures(self) -> list[Failure]:
        """Its runs that failed, oldest first; in a notebook, a table."""
        return self._client.run(self.calls.failures())

    def failure(self) -> JobFailed | None:
        """Why it failed, with its error code as ``step``; None if it runs, is complete or was stopped."""
        return failure_of(self.row())

    def holes(self) -> list[Quarantined]:
        """Blocks of its dataset that no provider delivers correctly, and that it does without, with what is known.

        In a notebook, a table.
        """
        return self._client.run(self.calls.holes())

    # -- what to do with it -------------------------------------------------------------------------------------------

    def wait(
        self, timeout_secs: float | None = None, on_progress: OnProgress | None = None, *, progress: bool = True
    ) -> Summary:
        """Wait until it has ended, and sum up; after a stop the summary has holes.

        In a notebook it shows the live card meanwhile, unless one is there already or ``progress`` is false; elsewhere
        nothing. ``on_progress`` is called several times a second instead. Raises ``JobFailed`` if the job failed, and
        as ``outcome``. Ending the wait (Ctrl-C, a kernel's interrupt) does not end the job.
        """
        if progress and on_progress is None:
            live.show_once(self, self._client)
        try:
            row = self.outcome(timeout_secs, on_progress)
        except KeyboardInterrupt:
            live.tell_it_goes_on(self)
            raise
        live.settle(self, self._client)
        return self._client.run(self.calls.result(row))

    def outcome(self, timeout_secs: float | None = None, on_progress: OnProgress | None = None) -> JobRow:
        """Wait until it has ended, however that is; its last row.

        Raises ``TimeoutError``, ``NotFound`` if the job is removed meanwhile, and what the database says once it has
        not answered for a minute. Never stops the job.
        """
        if on_progress is None:
            return self._client.run(self.calls.ended(timeout_secs))
        watch = self.calls.watch(POLL_SECS)
        while (now := self._client.run(watch.next(timeout_secs))) is not None:
            on_progress(now)
        return self._client.run(self.calls.ended(timeout_secs))  # it may have been tried again meanwhile

    def stop(self) -> None:
        """Ask it to stop; what is complete is committed first. A job that has ended stays as it is."""
        self._client.run(self.calls.stop())

    def retry(self, worker: str | None = None, *, quarantined: bool = False) -> int:
        """Run it once more, now that it has ended; with ``quarantined`` its holes are asked for again: how many.

        Raises ``JobConflict`` unless it has ended, ``WorkerNotAvailable`` or ``SchedulerError``.
        """
        return self._client.run(self.calls.retry(worker, quarantined))

    def remove(self) -> None:
        """Delete its row and events; ``JobConflict`` unless it has ended. Data stays."""
        self._client.run(self.calls.remove())
