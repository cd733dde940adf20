"""Jobs on a real server: scheduling, moves as compare-and-set, hints, stops, retries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.errors import AmpdError, JobConflict, NotFound, WorkerNotAvailable
from ampd_ray.metadb import jobs, workers
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.jobs import JobStatus
from ampd_ray.metadb.notifications import JOB_ACTIONS
from tests.postgres.nodes import execute

HASH = "a" * 64
KEY = "9cf7bf060389c4f026be721df26adeec9dc50794dc54cd354d287d1c77ea8c5c"
WORK = JobDescriptor(dataset_namespace="_", dataset_name="eth_rpc", manifest_hash=HASH, end_block="100")
OTHER_WORK = WORK.model_copy(update={"end_block": "200"})
FAILURE = {"error_code": "PARTITION_TASK", "error_message": "no"}


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[Connection]:
    """A session on a database where nodes one and two are alive."""
    async with db.session() as conn:
        for node in ("one", "two"):
            await workers.register(conn, node, {"implementation": "ampd-ray"})
        yield conn


@pytest.fixture
async def job_id(db: Database, conn: Connection) -> int:
    """A job that was scheduled on node one."""
    return await jobs.schedule(db, WORK, "one")


async def status(conn: Connection, job_id: int) -> str:
    row = await jobs.get(conn, job_id)
    assert row is not None
    return row.written


async def history(conn: Connection, job_id: int) -> list[tuple[str, str]]:
    return [(event.event_type, event.node_id) for event in await jobs.events(conn, job_id)]


async def put(conn: Connection, job_id: int, text: str) -> None:
    await conn.execute("update jobs_status set status = %s where job_id = %s", [text, job_id])


async def die(conn: Connection, node_id: str) -> None:
    await conn.execute("update workers set heartbeat_at = now() - interval '6 s' where node_id = %s", [node_id])


class Hints:
    """What was sent on ``job_actions`` since ``LISTEN``."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def sent(self) -> list[Any]:
        await self._conn.execute("select 1")  # whatever was committed before has been delivered with its answer
        async with aclosing(self._conn.notifies(timeout=0)) as received:
            return [json.loads(message.payload) async for message in received]


@pytest.fixture
async def hints(db: Database) -> AsyncIterator[Hints]:
    async with db.session() as conn:
        await conn.execute(f"listen {JOB_ACTIONS}".encode())
        yield Hints(conn)


def hint(node_id: str, job_id: int, action: str) -> dict[str, Any]:
    return {"node_id": node_id, "payload": {"job_id": job_id, "action": action}}


# -- scheduling -------------------------------------------------------------------------------------------------


async def test_a_new_job_has_row_status_event_and_hint(db: Database, conn: Connection, hints: Hints) -> None:
    job_id = await jobs.schedule(db, WORK, "one")
    row = await jobs.get(conn, job_id)
    assert row is not None
    assert (row.job_id, row.node_id, row.status) == (job_id, "one", JobStatus.SCHEDULED)
    assert row.detail == row.descriptor == json.loads(WORK.to_json())
    assert await history(conn, job_id) == [("SCHEDULED", "one")]
    assert [event.detail for event in await jobs.events(conn, job_id)] == [row.detail]
    assert await jobs.descriptor(conn, job_id) == WORK
    assert await hints.sent() == [hint("one", job_id, "START")]
    written = await (await conn.execute("select node_id, idempotency_key, descriptor, status from jobs")).fetchone()
    assert written is not None
    assert tuple(written) == ("one", KEY, None, "SCHEDULED")


async def test_the_same_work_again_changes_nothing(db: Database, conn: Connection, job_id: int, hints: Hints) -> None:
    same = "(detail - 'verify' - 'max_writers') || '{\"unknown\": 1}'"
    await execute(db, f"update job_events set detail = {same} where job_id = %s", job_id)
    assert await jobs.schedule(db, WORK, "two") == job_id
    assert await jobs.transition(conn, job_id, JobStatus.RUNNING, "one")
    assert await jobs.schedule(db, WORK, "two") == job_id
    assert await history(conn, job_id) == [("SCHEDULED", "one"), ("RUNNING", "one")]
    assert await hints.sent() == []


@pytest.mark.parametrize("at", ["SCHEDULED", "RUNNING", "STOP_REQUESTED", "STOPPING", "odd"])
async def test_other_work_on_a_job_that_is_not_at_an_end_is_a_conflict(
    db: Database, conn: Connection, job_id: int, hints: Hints, at: str
) -> None:
    await put(conn, job_id, at)
    with pytest.raises(JobConflict, match=f"job {job_id} of _/eth_rpc is {at}"):
        await jobs.schedule(db, OTHER_WORK, "two")
    assert await status(conn, job_id) == at
    assert await hints.sent() == []


async def test_a_descriptor_that_nobody_can_read_is_no_match(db: Database, conn: Connection, job_id: int) -> None:
    await execute(db, "update job_events set detail = '{}'")
    with pytest.raises(AmpdError) as raised:
        await jobs.descriptor(conn, job_id)
    assert raised.value.code == "INVALID_DESCRIPTOR"
    with pytest.raises(JobConflict):
        await jobs.schedule(db, WORK, "one")


async def test_a_job_without_a_descriptor_says_so(db: Database, conn: Connection, job_id: int) -> None:
    await execute(db, "delete from job_events")
    with pytest.raises(AmpdError) as raised:
        await jobs.descriptor(conn, job_id)
    assert raised.value.code == "INVALID_DESCRIPTOR"


@pytest.mark.parametrize("at", ["COMPLETED", "STOPPED", "ERROR", "FATAL", "completed"])
async def test_a_job_at_an_end_starts_again_with_the_new_work_where_asked(
    db: Database, conn: Connection, job_id: int, hints: Hints, at: str
) -> None:
    await jobs.record_failure(conn, job_id, code="X", handling="bounded", spread=1.0)
    await put(conn, job_id, at)
    assert await jobs.schedule(db, OTHER_WORK, "two") == job_id
    row = await jobs.get(conn, job_id)
    assert row is not None
    assert (row.node_id, row.written, row.detail) == ("two", "SCHEDULED", json.loads(OTHER_WORK.to_json()))
    assert await jobs.descriptor(conn, job_id) == OTHER_WORK
    assert await jobs.scheduled_count(conn, job_id) == 2
    assert await jobs.failures(conn, job_id) == 0
    assert await hints.sent() == [hint("two", job_id, "START")]


async def test_two_that_schedule_at_once_get_one_job(db: Database, conn: Connection) -> None:
    ids = await asyncio.gather(*(jobs.schedule(db, WORK, node) for node in ["one", "two"] * 4))
    assert len(set(ids)) == 1
    assert len(await history(conn, ids[0])) == 1


async def test_two_that_schedule_different_work_at_once_conflict(db: Database, conn: Connection) -> None:
    results = await asyncio.gather(
        jobs.schedule(db, WORK, "one"), jobs.schedule(db, OTHER_WORK, "two"), return_exceptions=True
    )
    assert [type(result) for result in results if not isinstance(result, int)] == [JobConflict]


async def test_a_node_that_never_registered_gets_nothing(db: Database, conn: Connection) -> None:
    with pytest.raises(WorkerNotAvailable, match="nobody"):
        await jobs.schedule(db, WORK, "nobody")
    assert await jobs.list_jobs(conn) == []


@pytest.mark.parametrize(("at", "steps"), [("STOP_REQUESTED", ["STOPPING", "STOPPED"]), ("STOPPING", ["STOPPED"])])
async def test_a_stop_that_a_dead_node_never_finished_is_finished(
    db: Database, conn: Connection, job_id: int, at: str, steps: list[str]
) -> None:
    await put(conn, job_id, at)
    await die(conn, "one")
    assert await jobs.schedule(db, OTHER_WORK, "two") == job_id
    assert await history(conn, job_id) == [
        ("SCHEDULED", "one"),
        *((step, "one") for step in steps),
        ("SCHEDULED", "two"),
    ]
    assert await status(conn, job_id) == "SCHEDULED"


# -- moves of a worker ------------------------------------------------------------------------------------------


async def test_a_move_writes_row_and_event(conn: Connection, job_id: int) -> None:
    assert await jobs.transition(conn, job_id, JobStatus.RUNNING, "one")
    row = await jobs.get(conn, job_id)
    assert row is not None
    assert (row.written, row.detail, row.descriptor) == ("RUNNING", None, json.loads(WORK.to_json()))
    assert row.updated_at > row.created_at
    assert await history(conn, job_id) == [("SCHEDULED", "one"), ("RUNNING", "one")]


@pytest.mark.parametrize("to", ["ERROR", "FATAL"])
async def test_a_failure_is_in_row_and_event(conn: Connection, job_id: int, to: str) -> None:
    assert await jobs.transition(conn, job_id, JobStatus(to), "one", FAILURE)
    row = await jobs.get(conn, job_id)
    assert row is not None
    assert row.detail == FAILURE
    assert [event.detail for event in await jobs.events(conn, job_id)][-1] == FAILURE


async def test_the_detail_of_another_move_is_in_the_event_only(conn: Connection, job_id: int) -> None:
    assert await jobs.transition(conn, job_id, JobStatus.RUNNING, "one", {"reassigned_from": "two"})
    row = await jobs.get(conn, job_id)
    assert row is not None
    assert row.detail is None
    assert [event.detail for event in await jobs.events(conn, job_id)][-1] == {"reassigned_from": "two"}


MOVES = [
    (start, to)
    for start in JobStatus
    for to in (JobStatus.RUNNING, JobStatus.STOPPING, JobStatus.STOPPED, JobStatus.COMPLETED, JobStatus.ERROR)
]


async def test_only_the_moves_of_the_table_happen(conn: Connection, job_id: int) -> None:
    for start, to in MOVES:
        await put(conn, job_id, start.value.lower())
        before = len(await history(conn, job_id))
        moved = await jobs.transition(conn, job_id, to, "one")
        assert moved == (start in jobs.TRANSITIONS[to]), (start, to)
        assert await status(conn, job_id) == (to.value if moved else start.value.lower())
        assert len(await history(conn, job_id)) - before == moved


async def test_the_job_of_another_node_is_not_moved(conn: Connection, job_id: int) -> None:
    assert not await jobs.transition(conn, job_id, JobStatus.RUNNING, "two")
    assert not await jobs.transition(conn, 99, JobStatus.RUNNING, "one")
    assert await status(conn, job_id) == "SCHEDULED"


async def test_of_two_that_race_one_moves(db: Database, conn: Connection, job_id: int) -> None:
    await jobs.transition(conn, job_id, JobStatus.RUNNING, "one")

    async def move(to: JobStatus) -> bool:
        async with db.connection() as own:
            return await jobs.transition(own, job_id, to, "one", FAILURE)

    moves = await asyncio.gather(*(move(to) for to in [JobStatus.ERROR, JobStatus.FATAL, JobStatus.COMPLETED]))
    assert sorted(moves) == [False, False, True]
    assert len(await history(conn, job_id)) == 3


async def test_a_move_that_happened_is_settled_by_its_own_event_only(conn: Connection, job_id: int) -> None:
    assert not await jobs.settled(conn, job_id, "one", JobStatus.RUNNING)
    await jobs.transition(conn, job_id, JobStatus.RUNNING, "one")
    assert await jobs.settled(conn, job_id, "one", JobStatus.RUNNING)
    assert not await jobs.settled(conn, job_id, "two", JobStatus.RUNNING)
    assert not await jobs.settled(conn, job_id, "one", JobStatus.SCHEDULED)
    assert not await jobs.settled(conn, 99, "one", JobStatus.RUNNING)
    await conn.execute("insert into job_events (job_id, node_id, event_type) values (%s, 'two', 'RUNNING')", [job_id])
    assert not await jobs.settled(conn, job_id, "one", JobStatus.RUNNING)


async def test_a_node_sees_its_jobs_in_hand_stopping_ones_included(db: Database, conn: Connection) -> None:
    statuses = ["SCHEDULED", "running", "STOP_REQUESTED", "STOPPING", "STOPPED", "COMPLETED", "ERROR", "FATAL", "odd"]
    for at, text in enumerate(statuses):
        work = WORK.model_copy(update={"dataset_name": f"set_{at}"})
        await put(conn, await jobs.schedule(db, work, "one"), text)
    await jobs.schedule(db, WORK, "two")
    assert [row.status for row in await jobs.mine(conn, "one")] == [
        "SCHEDULED",
        "RUNNING",
        "STOP_REQUESTED",
        "STOPPING",
    ]
    assert [row.node_id for row in await jobs.list_jobs(conn)] == ["one"] * 9 + ["two"]
    odd = await jobs.list_jobs(conn, node_id="one")
    assert (odd[-1].status, odd[-1].written) == (JobStatus.UNKNOWN, "odd")
    assert len(await jobs.list_jobs(conn, statuses=[JobStatus.ERROR, JobStatus.FATAL])) == 2
    assert await jobs.get(conn, 99) is None


# -- stop, retry, delete ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["SCHEDULED", "RUNNING"])
async def test_a_stop_goes_to_the_assigned_node(
    db: Database, conn: Connection, job_id: int, hints: Hints, at: str
) -> None:
    await put(conn, job_id, at)
    assert await jobs.request_stop(db, job_id)
    row = await jobs.get(conn, job_id)
    assert row is not None
    assert (row.written, row.detail) == ("STOP_REQUESTED", None)
    assert (await history(conn, job_id))[-1] == ("STOP_REQUESTED", "one")
    assert await hints.sent() == [hint("one", job_id, "STOP")]


@pytest.mark.parametrize("at", ["STOP_REQUESTED", "STOPPING", "STOPPED", "COMPLETED", "ERROR", "FATAL"])
async def test_a_stop_of_what_stops_anyway_is_silent(
    db: Database, conn: Connection, job_id: int, hints: Hints, at: str
) -> None:
    await put(conn, job_id, at)
    assert not await jobs.request_stop(db, job_id)
    assert await status(conn, job_id) == at
    assert len(await history(conn, job_id)) == 1
    assert await hints.sent() == []


async def test_what_cannot_be_stopped_is_named(db: Database, conn: Connection, job_id: int) -> None:
    with pytest.raises(NotFound, match="no job 99"):
        await jobs.request_stop(db, 99)
    await put(conn, job_id, "odd")
    with pytest.raises(JobConflict, match="odd"):
        await jobs.request_stop(db, job_id)


async def test_a_retry_repeats_the_newest_work_from_error_only(
    db: Database, conn: Connection, job_id: int, hints: Hints
) -> None:
    assert not await jobs.reschedule(db, job_id, "two")
    await jobs.transition(conn, job_id, JobStatus.ERROR, "one", FAILURE)
    results = await asyncio.gather(*(jobs.reschedule(db, job_id, "two") for _ in range(4)))
    assert sorted(results) == [False, False, False, True]
    row = await jobs.get(conn, job_id)
    assert row is not None
    assert (row.node_id, row.written, row.detail) == ("two", "SCHEDULED", json.loads(WORK.to_json()))
    assert await jobs.scheduled_count(conn, job_id) == 2
    assert await hints.sent() == [hint("two", job_id, "START")]
    with pytest.raises(NotFound):
        await jobs.reschedule(db, 99, "one")


async def test_failures_in_a_row_are_counted_until_progress(conn: Connection, job_id: int) -> None:
    assert await jobs.failures(conn, job_id) == 0
    counts = [await jobs.record_failure(conn, job_id, code="X", handling="bounded", spread=1.0) for _ in range(3)]
    assert counts == [1, 2, 3]
    row = await (
        await conn.execute(
            "select last_error_code, last_error_class, next_retry_at - now() as wait from ampd_ray.job_state"
        )
    ).fetchone()
    assert row is not None
    assert row[:2] == ("X", "bounded")
    assert timedelta(seconds=7) < row.wait <= timedelta(seconds=8)
    await jobs.record_progress(conn, job_id)
    assert await jobs.failures(conn, job_id) == 0
    assert await jobs.record_failure(conn, job_id, code="X", handling="bounded", spread=1.0) == 1


async def test_progress_of_a_job_that_never_failed_is_recorded(conn: Connection, job_id: int) -> None:
    await jobs.record_progress(conn, job_id)
    row = await (await conn.execute("select last_progress_at is not null as seen from ampd_ray.job_state")).fetchone()
    assert row is not None
    assert row.seen


async def test_a_retry_is_due_when_its_time_has_come(db: Database, conn: Connection, job_id: int) -> None:
    await jobs.record_failure(conn, job_id, code="X", handling="bounded", spread=1.0)
    assert await jobs.retry_due(conn) == []
    await jobs.transition(conn, job_id, JobStatus.ERROR, "one", FAILURE)
    assert await jobs.retry_due(conn) == []
    await conn.execute("update ampd_ray.job_state set next_retry_at = now()")
    assert await jobs.retry_due(conn) == [jobs.DueRetry(job_id, "one", 1)]
    assert await jobs.reschedule(db, job_id, "one")
    assert await jobs.retry_due(conn) == []
    await jobs.transition(conn, job_id, JobStatus.ERROR, "one", FAILURE)
    assert await jobs.retry_due(conn) == [], "the old time says nothing about the new failure"


async def test_an_error_that_amps_worker_wrote_counts_from_its_time(conn: Connection, job_id: int) -> None:
    await jobs.transition(conn, job_id, JobStatus.ERROR, "one", FAILURE)
    assert await jobs.retry_due(conn) == []
    await conn.execute("update jobs_status set updated_at = now() - interval '1 s'")
    assert await jobs.retry_due(conn) == [jobs.DueRetry(job_id, "one", 0)]


async def test_only_a_job_at_an_end_is_deleted_with_all_that_is_known_of_it(
    db: Database, conn: Connection, job_id: int
) -> None:
    with pytest.raises(JobConflict, match="SCHEDULED"):
        await jobs.delete(db, job_id)
    await jobs.record_failure(conn, job_id, code="X", handling="bounded", spread=1.0)
    await conn.execute("insert into physical_table_revisions (path, writer) values ('a', %s)", [job_id])
    await jobs.transition(conn, job_id, JobStatus.FATAL, "one", FAILURE)
    await jobs.delete(db, job_id)
    assert await jobs.get(conn, job_id) is None
    left = "select (select count(*) from jobs) + (select count(*) from job_events) + (select count(*) from jobs_status)"
    row = await (await conn.execute(f"{left} + (select count(*) from ampd_ray.job_state) as n".encode())).fetchone()
    assert row is not None
    assert row.n == 0
    with pytest.raises(NotFound):
        await jobs.delete(db, job_id)
