"""A handle of one job: watch it, wait for it, stop it, try it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ampd_ray.controller import service
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, JobFailed
from ampd_ray.metadb import jobs, progress, quarantine
from ampd_ray.metadb.jobs import JobEvent, JobRow, JobStatus
from ampd_ray.metadb.progress import ReportedProgress
from ampd_ray.metadb.quarantine import Quarantined

if TYPE_CHECKING:
    from ampd_ray.client.session import Client

T = TypeVar("T")
OnProgress = Callable[[ReportedProgress | None], None]
POLL_SECS = 0.2
PATIENCE_SECS = 60.0


class Job:
    """One job, by its id; it holds nothing else, so it can be made anew at any time."""

    def __init__(self, client: Client, job_id: int):
        self.id = job_id
        self._client = client

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def row(self) -> JobRow:
        """Its row now."""
        return self._client.job_row(self.id)

    def status(self) -> JobStatus:
        """Its status now."""
        return self.row().status

    def descriptor(self) -> JobDescriptor:
        """What it was asked to do."""
        return self._ask(lambda conn: jobs.descriptor(conn, self.id))

    def progress(self) -> ReportedProgress | None:
        """What its node last reported; None before the first report."""
        return self._ask(lambda conn: progress.read(conn, self.id))

    def events(self) -> list[JobEvent]:
        """Its status changes, oldest first."""
        return self._ask(lambda conn: jobs.events(conn, self.id))

    def stop(self) -> None:
        """Ask it to stop; what is complete is committed first. A job that has ended stays as it is."""
        self._client.run(jobs.request_stop(self._client.db, self.id))

    def holes(self) -> list[Quarantined]:
        """Blocks of its dataset that no provider delivers correctly, and that it does without, with what is known."""
        group = quarantine.group_of(self.descriptor())
        return self._ask(lambda conn: quarantine.listed(conn, group))

    def retry(self, worker: str | None = None, *, quarantined: bool = False) -> int:
        """Run it once more, now that it has ended; with ``quarantined`` its holes are asked for again: how many.

        Raises ``JobConflict`` unless it has ended, ``WorkerNotAvailable`` or ``SchedulerError``.
        """
        return self._client.run(service.retry(self._client.db, self.id, worker, quarantined=quarantined))

    def remove(self) -> None:
        """Delete its row and events; ``JobConflict`` unless it has ended. Data stays."""
        self._client.run(jobs.delete(self._client.db, self.id))

    def failure(self) -> JobFailed | None:
        """Why it failed, with its error code as ``step``; None if it runs, is complete or was stopped."""
        row = self.row()
        if row.status not in (JobStatus.ERROR, JobStatus.FATAL):
            return None
        detail = row.detail if isinstance(row.detail, dict) else {}
        reason = detail.get("error_message") or "no reason is recorded"
        code = str(detail.get("error_code") or "UNKNOWN")
        return JobFailed(
            f"job {self.id} ended as {row.status}: {reason} [{code}]",
            step=code,
            retryable=row.status is JobStatus.ERROR,
            job_id=self.id,
        )

    def wait(self, timeout_secs: float | None = None, on_progress: OnProgress | None = None) -> JobRow:
        """Wait until it has ended, however that is; its last row. ``on_progress`` is called several times a second.

        Raises ``TimeoutError``, ``NotFound`` if the job is removed meanwhile, and what the database says once it has
        not answered for a minute. Never stops the job.
        """
        started = answered = time.monotonic()
        stale: ReportedProgress | None = None  # of an earlier run
        if on_progress is not None:
            stale = self.progress()
        while True:
            self._client.check()
            try:
                row, now = self.row(), self.progress() if on_progress is not None else None
            except AmpdError as error:
                if not error.retryable or time.monotonic() - answered > PATIENCE_SECS:
                    raise
            else:
                answered = time.monotonic()
                if on_progress is not None:
                    fresh = now is not None and (stale is None or now.updated_at > stale.updated_at)
                    on_progress(now if fresh else None)
                if row.status.terminal:
                    return row
            if timeout_secs is not None and time.monotonic() - started > timeout_secs:
                raise TimeoutError(f"job {self.id} has not ended after {timeout_secs:g} s")
            time.sleep(POLL_SECS)

    def _ask(self, verb: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        async def asked() -> T:
            async with self._client.db.connection() as conn:
                return await verb(conn)

        return self._client.run(asked())
