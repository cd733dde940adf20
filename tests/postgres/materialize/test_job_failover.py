"""Real jobs on whole nodes that die, drain or sleep: each block once, and only the open segment comes a second time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.materialize.types import Extract, Outcome, WriterOptions
from ampd_ray.metadb import jobs
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.bench import NODE, Bench, Run, until
from tests.fakes.cables import cable
from tests.postgres.works import works

S = JobStatus
SEGMENT = 16
LAST = 130


async def deploy(bench: Bench) -> int:
    bench.options = WriterOptions(segment_blocks=SEGMENT)
    return (await bench.job(end_block=str(LAST))).id


async def status(bench: Bench) -> tuple[str, str]:
    (row,) = await bench.query("select node_id, status from jobs_status")
    return row.node_id, row.status


async def is_completed(bench: Bench, node_id: str) -> bool:
    return await status(bench) == (node_id, "COMPLETED")


class Hold:
    """Keeps calls waiting from a block on, until it is let go."""

    def __init__(self, block: int) -> None:
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()
        self._block = block

    async def __call__(self, what: Span | Extract) -> None:
        span = what.span if isinstance(what, Extract) else what
        if span.start >= self._block:
            self.reached.set()
            await self.let_go.wait()


def holding_extraction(hold: Hold) -> Callable[[Run], None]:
    def prepare(run: Run) -> None:
        run.extractors.before_extract = hold

    return prepare


def holding_writes(hold: Hold) -> Callable[[Run], None]:
    def prepare(run: Run) -> None:
        run.writers.before_append = hold

    return prepare


async def test_a_job_goes_on_elsewhere_from_what_is_committed(bench: Bench, pg_url: str) -> None:
    hold = Hold(64)
    await deploy(bench)
    async with (
        cable(pg_url) as line,
        works(bench, line.url, NODE, holding_extraction(hold)) as old,
        works(bench, pg_url, "peer") as peer,
    ):
        await until(lambda: hold.reached.is_set() and len(committed(old.runs[0])) == 4)
        await line.cut()
        await until(lambda: is_completed(bench, "peer"))
        assert merge(peer.runs[0].extractors.spans) == [Span(4 * SEGMENT, LAST)]
        assert old.coordinator.runner.state.tasks  # nobody has told it yet
        line.mend()
        await until(lambda: not old.coordinator.runner.state.tasks)  # by its row or its leases, whichever is read first
        assert await status(bench) == ("peer", "COMPLETED")
        await bench.assert_exactly_once(0, LAST)
        assert old.coordinator.counters.lease_lapses >= 1


def committed(run: Run) -> list[Span]:
    return sorted({file.range.span for report in run.writers.reports for file in report.committed})


async def test_a_writer_that_wakes_up_late_is_fenced(bench: Bench, pg_url: str) -> None:
    """It runs elsewhere, knows nothing of what happened, and can still reach the database."""
    hold = Hold(32)
    await deploy(bench)
    async with (
        cable(pg_url) as line,
        works(bench, line.url, NODE, holding_writes(hold)) as old,
        works(bench, pg_url, "peer") as peer,
    ):
        await until(lambda: hold.reached.is_set() and len(committed(old.runs[0])) == 2)
        await line.cut()
        await until(lambda: peer.runs and len(committed(peer.runs[0])) >= 2)
        before = len(await bench.segments())
        hold.let_go.set()
        await until(lambda: old.outcomes)
        assert old.outcomes[0].outcome is Outcome.FENCED
        assert committed(old.runs[0]) == [Span(0, SEGMENT - 1), Span(SEGMENT, 2 * SEGMENT - 1)]
        assert before >= 4
        await until(lambda: is_completed(bench, "peer"))
        assert await bench.spans() == [(at, min(at + SEGMENT - 1, LAST)) for at in range(0, LAST + 1, SEGMENT)]
        await bench.assert_exactly_once(0, LAST)
        events = await bench.query("select event_type from job_events order by id")
        assert [row.event_type for row in events] == ["SCHEDULED", "RUNNING", "RUNNING", "COMPLETED"]


async def test_a_node_without_its_database_pauses_and_goes_on_where_it_was(bench: Bench, pg_url: str) -> None:
    hold = Hold(64)
    await deploy(bench)
    async with cable(pg_url) as line, works(bench, line.url, NODE, holding_extraction(hold)) as node:
        await until(hold.reached.is_set)
        await line.cut()
        await until(lambda: node.coordinator.counters.lease_lapses)
        run = node.runs[0]
        await until(lambda: run.job.meter._limit() == "lease")
        asked = list(run.extractors.spans)
        hold.let_go.set()
        await until(lambda: sum(len(report.appended) for report in run.writers.reports) == len(asked))
        assert run.extractors.spans == asked  # what was under way is committed; nothing more is asked for
        line.mend()
        await until(lambda: is_completed(bench, NODE))
        assert sum(map(len, run.extractors.spans)) == LAST + 1  # nothing twice
        assert len(node.runs) == 1
        assert [each.locations[0].epoch for each in run.writers.partitions] == [1] * len(run.writers.partitions)
        await bench.assert_exactly_once(0, LAST)


async def test_a_draining_node_commits_what_it_has_and_a_peer_goes_on_at_once(bench: Bench, pg_url: str) -> None:
    hold = Hold(64)
    await deploy(bench)
    bench.options = WriterOptions(segment_blocks=1000)  # everything is in one open file
    async with (
        works(bench, pg_url, NODE, holding_extraction(hold)) as old,
        works(bench, pg_url, "peer") as peer,
    ):
        await until(hold.reached.is_set)
        await until(lambda: old.runs and sum(len(r.appended) for r in old.runs[0].writers.reports) == 4)
        old.coordinator.ask_drain()
        assert old.task is not None
        assert await old.task == 0
        held = "select 1 from ampd_ray.location_lease where expires_at > now() and node_id = %s"
        assert await bench.query(held, NODE) == []
        await until(lambda: is_completed(bench, "peer"), within=5)
        assert committed(old.runs[0]) == [Span(0, 63)]
        assert merge(peer.runs[0].extractors.spans) == [Span(64, LAST)]
        await bench.assert_exactly_once(0, LAST)


async def test_a_restarted_node_goes_on_by_itself(bench: Bench, pg_url: str) -> None:
    """Its peers look on: the new process holds the node lease before theirs would let them."""
    hold = Hold(64)
    job_id = await deploy(bench)
    async with works(bench, pg_url, NODE, holding_extraction(hold)) as first:
        await until(hold.reached.is_set)
        first.coordinator.ask_drain()
    async with works(bench, pg_url, NODE) as second, works(bench, pg_url, "peer", takeover=False):
        await until(lambda: is_completed(bench, NODE))
        assert len(second.runs) == 1
    async with bench.db.connection() as conn:
        assert [event.node_id for event in await jobs.events(conn, job_id)] == [NODE] * 3
    await bench.assert_exactly_once(0, LAST)
