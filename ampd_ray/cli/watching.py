"""Follow a job to its end: what it is, how far it is, and what to say of how it ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ampd_ray.cli.card import Subject
from ampd_ray.errors import AmpdError
from ampd_ray.metadb.statuses import JobStatus

if TYPE_CHECKING:
    from ampd_ray.client import Client, Job
    from ampd_ray.client.progress import Progress

POLL_SECS = 0.5


def subject_of(client: Client, job: Job) -> Subject:
    """A job, as it is shown; of one that is not ours, or whose manifest is not to be had, there is not much to show."""
    try:
        work = client.run(job.calls.work())
    except AmpdError as error:
        if error.retryable:
            raise
        return Subject(job.id, "(unknown)")
    return Subject(job.id, work.dataset.dataset, work.network, work.span, work.tables)


def follow(job: Job, update: Callable[[Progress], None], *, for_good: bool) -> Progress:
    """Pass each state of ``job`` on until it has ended; its last one. Raises as ``Job.outcome``.

    ``for_good``: an error that is tried again is no end.
    """
    last: list[Progress] = []

    def passed_on(now: Progress) -> None:
        last[:] = [now]
        update(now)

    while job.outcome(on_progress=passed_on).status is JobStatus.ERROR and for_good:
        time.sleep(POLL_SECS)
    return last[0]


def ending(last: Progress, again: Callable[[str], str]) -> str:
    """One line on a job that did not fail: how it ended, and what to do about what is missing."""
    of = "" if last.total is None else f" of {last.total:,}"
    blocks = f"{last.done:,}{of} blocks"
    if last.status is not JobStatus.COMPLETED:
        ended = last.status.value.lower()
        return f"job {last.job_id} was {ended}: {blocks}; to go on: {again(f'jobs retry {last.job_id}')}"
    if last.holes:
        holes = f"{last.holes:,} {'hole' if last.holes == 1 else 'holes'}"
        return f"job {last.job_id} is complete but for {holes}; see {again(f'jobs holes {last.job_id}')}"
    return f"job {last.job_id} is complete: {blocks}, no holes"


def as_lines(write: Callable[[str], None]) -> Callable[[Progress], None]:
    """Writes a state as a line of JSON, unless it is that of the line before."""
    last: Progress | None = None

    def update(now: Progress) -> None:
        nonlocal last
        told = replace(now, age_secs=None)
        if told != last:
            last = told
            write(json.dumps(progress_json(now)))

    return update


def progress_json(now: Progress) -> dict[str, Any]:
    """A progress for programs."""
    share = {} if now.share is None else {"share": round(now.share, 4)}
    plain = {"status": str(now.status), "rows": dict(now.rows), "began": now.began and now.began.isoformat()}
    return asdict(now) | plain | {"share": None} | share
