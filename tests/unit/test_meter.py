"""What a run counts, and the row that it shows."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import DatabaseUnavailable
from ampd_ray.materialize.events import Extract, PartitionOpened, TaskExtracted
from ampd_ray.materialize.meter import Meter
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.setup import JobSpec
from ampd_ray.materialize.speed import MOST_SAMPLES, SAMPLES_PER_E_FOLD
from ampd_ray.materialize.state import JobState, Limits
from ampd_ray.materialize.types import CommittedFile, ExtractSummary, Outcome, WriterReport
from ampd_ray.metadb import jobs, progress
from ampd_ray.metadb.progress import JobProgress, JobRate

SPEC = JobSpec(7, "worker-1", uuid4(), JobDescriptor.of(DatasetRef("_", "devnet"), "a" * 64))


class Rows:
    """A database that keeps what is reported, or is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[JobProgress] = []
        self.rates: list[JobRate] = []
        self.recorded_for = 0.0
        self.progressed = 0
        self.away = False

        async def report(conn: Any, job_id: int, node_id: str, row: JobProgress) -> None:
            assert (job_id, node_id) == (7, "worker-1")
            self.rows.append(row)

        async def record_progress(conn: Any, job_id: int) -> None:
            self.progressed += 1

        async def recorded(conn: Any, job_id: int) -> tuple[float, int]:
            return self.recorded_for, len(self.rates)

        async def record_rate(conn: Any, job_id: int, node_id: str, rate: JobRate) -> None:
            assert (job_id, node_id) == (7, "worker-1")
            self.rates.append(rate)

        monkeypatch.setattr(progress, "report", report)
        monkeypatch.setattr(progress, "recorded", recorded)
        monkeypatch.setattr(progress, "record_rate", record_rate)
        monkeypatch.setattr(jobs, "record_progress", record_progress)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        if self.away:
            raise DatabaseUnavailable("away")
        yield None

    async def of(self, meter: Meter) -> JobProgress:
        await meter.report(self)  # type: ignore[arg-type]
        return self.rows[-1]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    return Rows(monkeypatch)


def extracted(start: int, end: int, requests: int = 0, **rows: int) -> ExtractSummary:
    return ExtractSummary(Span(start, end), rows, 10, requests, 0, rpc_bytes=9, fetch_secs=1, decode_secs=0)


def committed(start: int, end: int, **rows: int) -> WriterReport:
    range_ = BlockRange("devnet", start, end, hash=bytes(32), prev_hash=bytes(32))
    files = tuple(CommittedFile(table, 1, 1, range_, 0, count, 100) for table, count in rows.items())
    return WriterReport((Span(start, end),), files)


async def test_the_row_adds_up_what_was_reported(rows: Rows) -> None:
    meter = Meter(SPEC)
    assert (await rows.of(meter)).phase == "opening"
    meter.planned(total=1000, done=400)
    meter.extracted(ExtractSummary(Span(0, 9), {}, 10, requests=5, retries=2, rpc_bytes=9, fetch_secs=1, decode_secs=0))
    meter.reported(committed(400, 499, blocks=100, logs=7))
    meter.reported(WriterReport((Span(500, 549),)))
    row = await rows.of(meter)
    assert (row.blocks_done, row.blocks_total) == (550, 1000)
    assert (row.rows, row.rows_by_table, row.bytes) == (107, {"blocks": 100, "logs": 7}, 200)
    assert (row.rpc_requests, row.retries) == (5, 2)
    assert (meter.totals.blocks, meter.totals.files) == (100, 2)


async def test_the_rate_is_that_of_the_last_seconds_and_gives_the_time_left(rows: Rows) -> None:
    now = 100.0
    meter = Meter(SPEC, lambda: now)
    meter.planned(total=1000, done=0)
    assert (await rows.of(meter)).rate == 0.0
    for second in range(1, 21):
        now += 1
        meter.reported(WriterReport((Span(second * 10, second * 10 + (9 if second > 10 else 0)),)))
        row = await rows.of(meter)
    assert row.rate == pytest.approx(10, rel=0.1)
    assert row.rate
    assert row.eta_secs == pytest.approx((1000 - row.blocks_done) / row.rate)


async def test_a_new_plan_counts_from_what_is_committed(rows: Rows) -> None:
    """A lost writer takes appended blocks with it: the bar goes back, the rate does not become negative."""
    now = 100.0
    meter = Meter(SPEC, lambda: now)
    meter.planned(total=1000, done=0)
    meter.reported(WriterReport((Span(0, 499),)))
    assert (await rows.of(meter)).blocks_done == 500
    now += 1
    meter.planned(total=1000, done=100)
    row = await rows.of(meter)
    assert (row.blocks_done, row.rate) == (100, 0.0)


async def test_rows_and_requests_have_rates_too_over_the_same_seconds(rows: Rows) -> None:
    """They come with each task at once, which the window evens out."""
    now = 0.0
    meter = Meter(SPEC, lambda: now)
    await rows.of(meter)
    for second in range(1, 31):
        now += 1
        if second % 5 == 0:
            meter.extracted(extracted(second, second, requests=20, blocks=1, logs=99))
        row = await rows.of(meter)
    assert row.rows_rate == pytest.approx(20)
    assert row.requests_rate == pytest.approx(4)


async def test_what_is_there_when_a_run_begins_is_no_rate(rows: Rows) -> None:
    now = 0.0
    meter = Meter(SPEC, lambda: now)
    await rows.of(meter)
    now += 1
    meter.planned(total=1000, done=900)
    row = await rows.of(meter)
    assert (row.blocks_done, row.rate) == (900, 0.0)


async def test_rows_in_open_files_are_shown_until_they_are_committed_or_lost(rows: Rows) -> None:
    meter = Meter(SPEC)
    meter.planned(total=100, done=0)
    meter.extracted(extracted(0, 9, blocks=10, logs=50))
    assert (await rows.of(meter)).rows == 0
    meter.reported(WriterReport((Span(0, 9),)))
    assert (await rows.of(meter)).rows_by_table == {"blocks": 10, "logs": 50}
    meter.extracted(extracted(10, 19, blocks=10, logs=1))
    meter.reported(committed(10, 19, blocks=20, logs=51))
    assert (await rows.of(meter)).rows_by_table == {"blocks": 20, "logs": 51}
    meter.extracted(extracted(20, 29, blocks=10, logs=5))
    meter.reported(WriterReport((Span(20, 29),)))
    assert (await rows.of(meter)).rows == 86
    meter.planned(total=100, done=20)
    assert (await rows.of(meter)).rows_by_table == {"blocks": 20, "logs": 51}
    meter.extracted(extracted(20, 29, blocks=10, logs=5))
    meter.reported(WriterReport((Span(20, 29),)))
    meter.ended(Outcome.STOPPED)
    assert (await rows.of(meter)).rows == 71


async def test_blocks_that_are_set_aside_are_neither_done_nor_left(rows: Rows) -> None:
    now = 0.0
    meter = Meter(SPEC, lambda: now)
    meter.planned(total=100, done=40, aside=1)
    await rows.of(meter)
    now += 10
    meter.set_aside(50)
    meter.reported(WriterReport((Span(50, 50), Span(41, 49))))
    row = await rows.of(meter)
    assert row.blocks_done == 49
    assert row.rate == pytest.approx(0.9)
    assert row.eta_secs == pytest.approx((100 - 49 - 2) / 0.9)
    meter.reported(WriterReport((Span(51, 99),)))
    row = await rows.of(meter)
    assert (row.blocks_done, row.blocks_total, row.eta_secs) == (98, 100, None)


async def test_samples_add_up_to_what_was_done(rows: Rows) -> None:
    now = 0.0
    meter = Meter(SPEC, lambda: now)
    meter.planned(total=1000, done=500)
    for block in range(37):
        now += 1
        meter.extracted(extracted(block, block, requests=2, blocks=1, logs=3))
        meter.reported(WriterReport((Span(block, block),)))
        meter.waiting_for("head" if block % 5 else "lease")
        await rows.of(meter)
    assert [rate.secs for rate in rows.rates] == [5.0] * 7
    assert {rate.limiting_factor for rate in rows.rates} == {"head"}
    meter.ended(Outcome.COMPLETED)
    await rows.of(meter)
    await rows.of(meter)
    assert len(rows.rates) == 8
    assert sum(rate.secs for rate in rows.rates) == 37
    assert [sum(getattr(rate, name) for rate in rows.rates) for name in ("blocks", "rows", "requests")] == [37, 148, 74]


async def test_a_sample_that_was_not_written_is_in_the_next_one(rows: Rows) -> None:
    now = 0.0
    meter = Meter(SPEC, lambda: now)
    now, rows.away = 5.0, True
    meter.extracted(extracted(0, 0, requests=2, blocks=1))
    await meter.report(rows)  # type: ignore[arg-type]
    now, rows.away = 8.0, False
    await rows.of(meter)
    assert rows.rates == [JobRate(8.0, 0, 1, 2)]


async def test_a_run_that_did_nothing_leaves_no_sample(rows: Rows) -> None:
    meter = Meter(SPEC)
    meter.planned(total=100, done=100)
    await rows.of(meter)
    meter.ended(Outcome.COMPLETED)
    await rows.of(meter)
    assert rows.rates == []


async def test_runs_of_a_job_that_is_old_sample_rarely(rows: Rows) -> None:
    now = 0.0
    meter = Meter(SPEC, lambda: now)
    rows.recorded_for = 200 * 60.0
    for _ in range(121):
        now += 1
        await rows.of(meter)
    assert [rate.secs for rate in rows.rates] == [61.0]


async def test_runs_without_end_do_not_leave_samples_without_end(rows: Rows) -> None:
    for _ in range(3 * MOST_SAMPLES):  # each does something and fails: it is tried again at once, for days
        meter = Meter(SPEC, iter([0.0, 40.0, 40.0]).__next__)
        meter.extracted(extracted(0, 0, requests=1, blocks=1))
        meter.ended(Outcome.STOPPED)
        rows.recorded_for += 40
        await rows.of(meter)
    assert len(rows.rates) <= MOST_SAMPLES + SAMPLES_PER_E_FOLD * math.log(rows.recorded_for)


async def test_a_job_without_an_end_has_no_total(rows: Rows) -> None:
    meter = Meter(SPEC)
    meter.planned(total=None, done=77)
    row = await rows.of(meter)
    assert (row.blocks_done, row.blocks_total, row.eta_secs) == (77, None, None)


async def test_what_limits_is_shown(rows: Rows) -> None:
    meter = Meter(SPEC)
    machine = JobState([Unit(Span(0, 15), ("blocks",))], Limits(max_tasks=1))
    machine.start()
    (task,) = [each for each in machine.on(PartitionOpened(0)) if isinstance(each, Extract)]
    meter.follow(machine)
    assert ((row := await rows.of(meter)).phase, row.limiting_factor) == ("extracting", "rpc")
    meter.extracted(ExtractSummary(task.span, {}, 10, 1, 0, 0, fetch_secs=0.1, decode_secs=2.0))
    assert (await rows.of(meter)).limiting_factor == "cpu"
    machine.on(TaskExtracted(0, task.span, 10))
    assert (await rows.of(meter)).limiting_factor == "writer"
    meter.waiting_for("head")
    assert ((row := await rows.of(meter)).phase, row.limiting_factor) == ("waiting", "head")
    meter.ended(Outcome.STOPPED)
    assert ((row := await rows.of(meter)).phase, row.limiting_factor) == ("stopped", None)


async def test_commits_end_the_count_of_failures_once_for_each_row(rows: Rows) -> None:
    meter = Meter(SPEC)
    await rows.of(meter)
    assert rows.progressed == 0
    meter.reported(committed(0, 9, blocks=10))
    meter.reported(committed(10, 19, blocks=10))
    await rows.of(meter)
    await rows.of(meter)
    assert rows.progressed == 1


async def test_a_database_that_is_away_changes_nothing(rows: Rows) -> None:
    meter = Meter(SPEC)
    meter.reported(committed(0, 9, blocks=10))
    rows.away = True
    await meter.report(rows)  # type: ignore[arg-type]
    assert rows.rows == []
    rows.away = False
    assert (await rows.of(meter)).rows == 10
    assert rows.progressed == 1
