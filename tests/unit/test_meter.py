"""What a run counts, and the row that it shows."""

from __future__ import annotations

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
from ampd_ray.materialize.state import JobState, Limits
from ampd_ray.materialize.types import CommittedFile, ExtractSummary, Outcome, WriterReport
from ampd_ray.metadb import jobs, progress
from ampd_ray.metadb.progress import JobProgress

SPEC = JobSpec(7, "worker-1", uuid4(), JobDescriptor.of(DatasetRef("_", "devnet"), "a" * 64))


class Rows:
    """A database that keeps what is reported, or is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[JobProgress] = []
        self.progressed = 0
        self.away = False

        async def report(conn: Any, job_id: int, node_id: str, row: JobProgress) -> None:
            assert (job_id, node_id) == (7, "worker-1")
            self.rows.append(row)

        async def record_progress(conn: Any, job_id: int) -> None:
            self.progressed += 1

        monkeypatch.setattr(progress, "report", report)
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


async def test_a_job_without_an_end_has_no_total(rows: Rows) -> None:
    meter = Meter(SPEC)
    meter.planned(total=None, done=77)
    row = await rows.of(meter)
    assert (row.blocks_done, row.blocks_total, row.eta_secs) == (77, None, None)


async def test_what_limits_is_shown(rows: Rows) -> None:
    meter = Meter(SPEC)
    machine = JobState([Unit(Span(0, 99), ("blocks",))], Limits(max_tasks=1))
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
