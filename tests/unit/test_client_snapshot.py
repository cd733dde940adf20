"""How far a job is: the report of this run, or what is committed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ampd_ray.client.progress import Progress
from ampd_ray.client.snapshot import SILENT_SECS, Committed, failure_of, failures_of, of_this_run, progress_of, tells
from ampd_ray.client.work import name_of, work_of
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import Manifest
from ampd_ray.errors import InvalidDescriptor
from ampd_ray.metadb.jobs import JobEvent, JobRow
from ampd_ray.metadb.progress import JobProgress, ReportedProgress

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HASH = "a" * 64
DESCRIPTOR: dict[str, Any] = {"dataset_namespace": "_", "dataset_name": "eth", "manifest_hash": HASH, "end_block": "99"}
REPORT = JobProgress(
    "extracting", blocks_done=60, blocks_total=100, rows=7, bytes=8, rpc_requests=9, retries=2, rate=5.0,
    limiting_factor="rpc", eta_secs=8.0, rows_by_table={"logs": 7}, rows_rate=70.0, requests_rate=90.0,
)  # fmt: skip
COMMITTED = Committed(40, 100)


def row(status: str = "RUNNING", **facts: Any) -> JobRow:
    given: dict[str, Any] = {"detail": None, "descriptor": DESCRIPTOR, "scheduled_at": NOON, "holes": 0} | facts
    return JobRow(7, "north", status, created_at=NOON, updated_at=NOON, **given)


def said(after: timedelta = SECOND, age_secs: float = 0.5, **facts: Any) -> ReportedProgress:
    return ReportedProgress("north", replace(REPORT, **facts), NOON + after, age_secs)


def seen(row: JobRow, reported: ReportedProgress | None) -> Progress:
    """As a handle sees it: what is committed is asked for where the report does not tell."""
    fresh = of_this_run(row, reported)
    return progress_of(row, fresh, None if tells(row, fresh) else COMMITTED)


def rates(now: Progress) -> set[object]:
    return {now.blocks_per_sec, now.rows_per_sec, now.requests_per_sec, now.limit, now.eta_secs}


def test_a_running_job_is_where_its_node_says() -> None:
    assert seen(row(), said()) == Progress(
        job_id=7, dataset="_/eth", status=row().status, phase="extracting", node_id="north", age_secs=0.5, done=60,
        total=100, rows={"logs": 7}, bytes=8, retries=2, rpc_requests=9, blocks_per_sec=5.0, rows_per_sec=70.0,
        requests_per_sec=90.0, limit="rpc", eta_secs=8.0,
    )  # fmt: skip


@pytest.mark.parametrize("after", [-SECOND, timedelta(0)])
def test_what_was_reported_before_the_job_was_scheduled_is_of_an_earlier_run(after: timedelta) -> None:
    now = seen(row("SCHEDULED"), said(after))
    assert (now.done, now.total, now.rows, now.age_secs, now.retries) == (40, 100, {}, None, 0)
    assert rates(now) == {None}


def test_a_run_without_a_plan_yet_has_what_is_committed() -> None:
    now = seen(row(), said(phase="opening", blocks_done=0, blocks_total=None))
    assert (now.phase, now.done, now.total, now.age_secs) == ("opening", 40, 100, 0.5)
    assert rates(now) == {None}


@pytest.mark.parametrize("status", ["COMPLETED", "STOPPED", "ERROR", "FATAL"])
def test_an_ended_job_has_what_is_committed_and_no_speed(status: str) -> None:
    now = seen(row(status), said())
    assert (now.done, now.total, now.rows, now.retries) == (40, 100, {"logs": 7}, 2)
    assert rates(now) == {None}


def test_of_a_silent_node_nobody_knows_how_fast_it_is() -> None:
    now = seen(row(), said(age_secs=SILENT_SECS + 1))
    assert (now.done, now.age_secs) == (60, SILENT_SECS + 1)
    assert rates(now) == {None}


def test_a_job_that_follows_the_head_has_no_total() -> None:
    now = seen(row(), said(blocks_total=None))
    assert (now.done, now.total, now.share) == (60, None, None)


def test_a_job_whose_data_cannot_be_seen_is_shown_by_its_row() -> None:
    now = progress_of(row("SCHEDULED"), None, None)
    assert (now.done, now.total, now.share, now.node_id) == (0, None, None, "north")


def test_an_error_is_told_and_holes_are_those_of_the_range() -> None:
    failed = row("FATAL", detail={"error_message": "no such block", "error_code": "X"}, holes=9)
    assert progress_of(failed, None, COMMITTED, holes=2).holes == 2
    assert progress_of(failed, None, COMMITTED).error == "no such block"
    assert str(failure_of(failed)) == "job 7 ended as FATAL: no such block [X]"


@pytest.mark.parametrize("detail", [None, "text", [], {}, {"error_code": 3}])
def test_an_error_json_may_be_anybodys(detail: Any) -> None:
    failure = failure_of(row("ERROR", detail=detail))
    assert failure is not None
    assert failure.retryable
    assert "no reason is recorded" in str(failure)


def test_failures_are_the_failed_runs_of_the_history() -> None:
    told = {"error_message": "refused", "error_code": "RPC_REFUSED"}
    kinds = [("SCHEDULED", DESCRIPTOR), ("error", told), ("SCHEDULED", DESCRIPTOR), ("FATAL", None)]
    events = [JobEvent(n, NOON + n * SECOND, "north", kind, detail) for n, (kind, detail) in enumerate(kinds)]
    assert [(f.at, f.code, f.message, f.retryable) for f in failures_of(events)] == [
        (NOON + SECOND, "RPC_REFUSED", "refused", True),
        (NOON + 3 * SECOND, "UNKNOWN", "no reason is recorded", False),
    ]


@pytest.mark.parametrize("descriptor", [None, [], "text", {}, {"dataset_name": "x"}])
def test_a_job_of_somebody_else_has_no_dataset_that_we_know(descriptor: Any) -> None:
    assert name_of(row(descriptor=descriptor)) == ""


@pytest.mark.parametrize(
    ("end", "settled", "span"),
    [("99", None, (5, 99)), (None, None, None), (None, 50, None), ("latest", None, None), ("-3", 10, (5, 14))],
)
def test_the_last_block_is_as_asked_or_as_the_node_settled_it(
    end: str | None, settled: int | None, span: tuple[int, int] | None
) -> None:
    work = work_of(JobDescriptor(**(DESCRIPTOR | {"end_block": end})), Manifest("evm-rpc", "mainnet", 5), settled)
    assert (work.span and (work.span.start, work.span.end)) == span
    assert work.reach.start == 5


def test_a_job_that_ends_before_its_dataset_begins_is_no_work() -> None:
    with pytest.raises(InvalidDescriptor, match="begins with block 500"):
        work_of(JobDescriptor(**DESCRIPTOR), Manifest("evm-rpc", "mainnet", 500))


def test_what_a_stranger_says_of_a_failure_holds_no_secret() -> None:
    detail = {"error_message": "POST https://user:pass@eth.example.org/v3/0a1b2c failed", "error_code": "token=0a1b2c"}
    failed = row("ERROR", detail=detail)
    event = JobEvent(1, NOON, "north", "ERROR", detail)
    for told in (str(failure_of(failed)), repr(failures_of([event])), repr(seen(failed, None))):
        assert "https://eth.example.org" in told
        assert "0a1b2c" not in told
        assert "pass" not in told
