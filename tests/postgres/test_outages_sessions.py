"""Single sessions of a node fall silent, are cut in the moment of a commit, or may not write: it finds another way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ampd_ray import failpoints
from ampd_ray.chain.ranges import Span
from ampd_ray.materialize import patience
from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb import connection, files, jobs, session
from ampd_ray.metadb.connection import Database, Limits
from tests.fakes.bench import NODE, Bench, Run
from tests.fakes.commit_cutter import Moment, commit_cutter
from tests.fakes.devnet import Devnet
from tests.fakes.postgres_proxy import proxied
from tests.postgres.nodes import descriptor, execute, node, until
from tests.postgres.works import works
from tests.servers import Server, fresh_database, owner_of

LISTEN, LOCK = b"LISTEN", b"pg_try_advisory_lock"
HEARD_SECS = 7.0  # two probes: one in five seconds, each with two for an answer
BEATING_SECS = 3.0


@pytest.fixture
def pg_url(embedded: Server) -> Iterator[str]:
    with fresh_database(embedded) as url:
        yield url


# -- a session that is there, and says nothing ------------------------------------------------------------------------


async def test_a_silent_listener_is_replaced_and_nothing_is_missed(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with proxied(pg_url, (LISTEN,)) as (proxy, url), node(url, tmp_path) as running:
        counters = running.coordinator.counters
        assert proxy.go_silent(mark=LISTEN) == 1
        silent = time.monotonic()
        await jobs.schedule(db, descriptor(), running.coordinator.node_id)  # told to a session that does not hear
        await running.one_job()
        assert time.monotonic() - silent < HEARD_SECS + 1
        assert proxy.swallowed > 0
        assert (counters.listens, counters.notifications) == (2, 0)
        assert counters.session_reconnects == 0  # nothing else was touched


async def test_a_node_whose_heartbeat_falls_silent_ends_that_session_and_beats_on(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    """The server takes the lost session for alive, with the lock that it holds, for half a minute."""
    async with proxied(pg_url, (LOCK,)) as (proxy, url), node(url, tmp_path) as running:
        counters = running.coordinator.counters
        await until(lambda: counters.beats)
        beats = counters.beats
        assert proxy.go_silent(mark=LOCK) == 1
        silent = time.monotonic()
        await until(lambda: counters.session_reconnects)
        assert time.monotonic() - silent < BEATING_SECS
        await until(lambda: counters.beats > beats + 1)
        assert counters.lost_sessions_ended == 1
        assert counters.lock_waits == 0
        assert proxy.swallowed > 0
        (row,) = await execute(db, "select now() - heartbeat_at < interval '2 s' as beats from workers")
        assert row.beats
        held = await execute(db, "select 1 from pg_locks where locktype = 'advisory' and objsubid = 1")
        assert len(held) == 1


async def test_a_lost_session_whose_name_is_no_proof_is_waited_for_and_the_node_beats_meanwhile(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    async with proxied(pg_url, (LOCK,)) as (proxy, url), node(url, tmp_path, "w" * 50) as running:
        counters = running.coordinator.counters
        await until(lambda: counters.beats)
        assert proxy.go_silent(mark=LOCK) == 1
        await until(lambda: counters.lock_waits)
        beats = counters.beats
        await until(lambda: counters.beats > beats + 1)
        assert (counters.lost_sessions_ended, counters.session_reconnects) == (0, 0)
        (row,) = await execute(db, "select now() - heartbeat_at < interval '3 s' as beats from workers")
        assert row.beats
        await proxy.cut()  # now the server hears of it
        await until(lambda: counters.session_reconnects)


@pytest.mark.parametrize("moment", ["job-claimed", "planned", "intent-written", "in-commit", "before-settle"])
async def test_a_job_goes_on_whenever_its_sessions_fall_silent(
    pg_url: str, tmp_path: Path, devnet: Devnet, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """All that are there: their peer takes everything and answers nothing; new ones are well."""
    monkeypatch.setattr(session, "GRACE", timedelta(seconds=0.5))
    monkeypatch.setattr(session.Connection, "statement_timeout", timedelta(seconds=1))
    monkeypatch.setattr(connection, "STATEMENT_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(files, "_LIMITS", Limits(statement=timedelta(seconds=1)))
    silenced: list[int] = []
    async with proxied(pg_url) as (proxy, url):

        async def reach(point: str) -> None:
            if point == moment and not silenced:
                silenced.append(proxy.go_silent())

        monkeypatch.setattr(failpoints, "reach", reach)
        db = Database(url, application_name="ampd-ray/test")
        await db.open()
        bench = Bench(db, tmp_path, devnet, options=WriterOptions(segment_blocks=10))
        run = await bench.job(end_block="99")
        async with works(bench, url, NODE) as running:
            await until(lambda: running.outcomes, within=60.0)
            assert running.outcomes[-1] == JobOutcome(Outcome.COMPLETED)
            bench.db = past_the_proxy = Database(pg_url, application_name="ampd-ray/test")
            await past_the_proxy.open()
            await until(lambda: ended(bench, run.id), within=60.0)
            assert running.task is not None
            assert not running.task.done()
        assert silenced[0] > 0
        assert proxy.swallowed > 0
        await bench.assert_exactly_once(0, 99)
        await bench.close()
        await past_the_proxy.close()
        await db.close()


async def ended(bench: Bench, job_id: int) -> bool:
    (row,) = await bench.query("select status from jobs_status where job_id = %s", job_id)
    return bool(row.status == "COMPLETED")


# -- a session that is cut in the moment of a commit ------------------------------------------------------------------


@pytest.fixture
async def cut(pg_url: str, tmp_path: Path, devnet: Devnet) -> AsyncIterator[tuple[Bench, Any]]:
    """A bench whose database is behind a proxy that can end commits of files."""
    async with commit_cutter(pg_url, b"insert into file_metadata") as (cutter, url):
        db = Database(url, application_name="ampd-ray/test")
        await db.open()
        made = Bench(db, tmp_path, devnet, options=WriterOptions(segment_blocks=10))
        yield made, cutter
        await made.close()
        await db.close()


async def test_whenever_a_commit_is_cut_each_block_is_committed_once(
    cut: tuple[Bench, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before COMMIT is sent, on its way, committed and unanswered, and in the middle of the answer; twice each."""
    monkeypatch.setattr(patience, "PAUSES_SECS", (0.01,))
    bench, cutter = cut
    cutter.plan = [moment for moment in Moment for _ in range(2)]
    run = await bench.job(end_block="99")
    assert await run() == JobOutcome(Outcome.COMPLETED)
    assert cutter.fired == dict.fromkeys(Moment, 2)
    assert len(run.writers.partitions) == 1  # the writer settled it by itself
    assert await bench.spans() == [(at, at + 9) for at in range(0, 100, 10)]
    await bench.assert_exactly_once(0, 99)
    assert len(await bench.objects()) == 30


# -- a session that may not write -------------------------------------------------------------------------------------


@pytest.fixture
async def bench(db: Database, tmp_path: Path, devnet: Devnet) -> AsyncIterator[Bench]:
    made = Bench(db, tmp_path, devnet, options=WriterOptions(segment_blocks=10))
    yield made
    await made.close()


async def test_a_database_that_is_read_only_for_a_while_ends_no_job(
    bench: Bench, pg_url: str, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the primary has moved: sessions that are open stay read-only for ever, so they are replaced."""
    job = await bench.job(end_block="199")
    hold = Hold()
    async with works(bench, pg_url, NODE, hold.prepare) as running:
        counters = running.coordinator.counters
        await asyncio.wait_for(hold.reached.wait(), 20)
        await read_only(db, "on")
        hold.let_go.set()
        await until(lambda: counters.late_beats and "the object store: no progress" in caplog.text)
        await read_only(db, "off")
        await until(lambda: job_is(db, job.id, "COMPLETED"))
        assert counters.job_starts == 1
        assert running.task is not None
        assert not running.task.done()
    await bench.assert_exactly_once(0, 199)


async def test_an_end_that_cannot_be_written_is_tried_on_in_one_line(
    pg_url: str, db: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads succeed all the while, so that only the writes can tell that there is trouble."""
    async with node(pg_url, tmp_path) as running:
        counters = running.coordinator.counters
        job_id = await jobs.schedule(db, descriptor(), running.coordinator.node_id)
        job = await running.one_job()
        await read_only(db, "on")
        job.complete()
        retries = counters.database_retries
        await until(lambda: counters.database_retries >= retries + 5)
        await read_only(db, "off")
        await until(lambda: job_is(db, job_id, "COMPLETED"))
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("a job's status is written" in line for line in lines) <= 2  # a cause each


class Hold:
    """Keeps a job's writer waiting once it has committed something."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()

    def prepare(self, run: Run) -> None:
        def committed() -> bool:
            return any(report.committed for report in run.writers.reports)

        async def hold(_: Any) -> None:
            if committed():
                self.reached.set()
                await self.let_go.wait()

        async def leave_some_for_later(span: Span) -> None:
            if span.start >= 100:
                await until(committed)

        run.extractors.before_extract = leave_some_for_later
        run.writers.before_append = hold


async def read_only(db: Database, switch: str) -> None:
    """Make new sessions read-only or not; when they begin to be, the others end."""
    async with owner_of(db) as conn:
        await conn.execute(b"set session characteristics as transaction read write")
        row = await (await conn.execute("select current_database() as name")).fetchone()
        assert row is not None
        await conn.execute(f"alter database {row.name} set default_transaction_read_only = {switch}".encode())
        if switch == "on":
            await conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )


async def job_is(db: Database, job_id: int, wanted: str) -> bool:
    (row,) = await execute(db, "select status from jobs_status where job_id = %s", job_id)
    return bool(row.status == wanted)
