"""A whole node on a real server, with fake jobs: what it starts, stops, settles and outlives."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.errors import (
    ConfigError,
    DatabaseUnavailable,
    DataFault,
    Fenced,
    JobFailed,
    NodeInUse,
    ProviderUnreachable,
    SchemaMismatch,
)
from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb import jobs, leases, notifications, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.node import claims, takeover, watcher
from tests.fakes.jobs import FakeJob
from tests.fakes.postgres_proxy import proxied
from tests.postgres.nodes import (
    NODE,
    cut_sessions,
    descriptor,
    execute,
    history,
    job,
    node,
    set_status,
    status,
    unstarted,
    until,
)

S = JobStatus


async def registered(db: Database, *node_ids: str) -> None:
    """Let nodes exist that no process runs."""
    async with db.connection() as conn:
        for node_id in node_ids:
            await workers.register(conn, node_id, {"implementation": "ampd-ray", "failover_group": "here"})


async def becomes(db: Database, job_id: int, wanted: JobStatus) -> None:
    async def there() -> bool:
        return await status(db, job_id) is wanted

    await until(there)


async def test_notifications_that_do_not_get_through_at_first_are_tried_again(
    pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [False, False]
    supports_listen = notifications.supports_listen

    async def tested(db: Database) -> bool:
        return answers.pop() if answers else await supports_listen(db)

    monkeypatch.setattr(notifications, "supports_listen", tested)
    monkeypatch.setattr(watcher, "RETEST_EVERY", timedelta(milliseconds=10))
    async with node(pg_url, tmp_path) as running:
        assert running.coordinator.counters.listens == 1
    told = [record.message for record in caplog.records if "get through" in record.message]
    assert len(told) == 2
    assert told[1] == "notifications get through now"


# -- identity and start ---------------------------------------------------------------------------------------------


async def test_a_node_registers_and_beats(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path), db.connection() as conn:
        (row,) = await workers.list_workers(conn)
    assert row.alive
    assert row.info == {"version": "0", "implementation": "ampd-ray", "failover_group": "here"}


async def test_a_second_process_with_the_same_node_id_is_refused(pg_url: str, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as first, unstarted(pg_url, tmp_path) as second:
        second.start()
        with pytest.raises(NodeInUse, match="another --node-id"):
            await second.code()
        assert not first.ended


async def test_two_nodes_share_a_database(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, "a") as a, node(pg_url, tmp_path, "b") as b:
        await jobs.schedule(db, descriptor("eth"), "a")
        await jobs.schedule(db, descriptor("base"), "b")
        assert (await a.one_job()).descriptor.dataset == "_/eth"
        assert (await b.one_job()).descriptor.dataset == "_/base"


async def test_a_missing_directory_ends_the_start(pg_url: str, tmp_path: Path) -> None:
    async with unstarted(pg_url, tmp_path) as starting:
        (tmp_path / "data_dir").rmdir()
        starting.start()
        with pytest.raises(ConfigError, match="data_dir"):
            await starting.code()


async def test_an_unknown_database_ends_the_start(pg_url: str, db: Database, tmp_path: Path) -> None:
    await execute(db, "drop table tags")
    async with unstarted(pg_url, tmp_path) as starting:
        starting.start()
        with pytest.raises(SchemaMismatch):
            await starting.code()


async def test_a_database_that_blinks_during_the_start_is_waited_for(
    pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blinks = [DatabaseUnavailable("away"), DatabaseUnavailable("away")]
    supports_listen, register = notifications.supports_listen, workers.register

    async def listens(db: Database) -> bool:
        if len(blinks) > 1:
            raise blinks.pop()
        return await supports_listen(db)

    async def registers(*args: Any) -> None:
        if blinks:
            raise blinks.pop()
        await register(*args)

    monkeypatch.setattr(notifications, "supports_listen", listens)
    monkeypatch.setattr(workers, "register", registers)
    async with node(pg_url, tmp_path) as running:
        assert running.coordinator.counters.registrations == 1
    assert blinks == []


# -- starting jobs --------------------------------------------------------------------------------------------------


async def test_a_notification_starts_a_job(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        assert started.row.status is S.RUNNING
        assert started.descriptor.same_work(descriptor())
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING"]
        started.complete()
        await becomes(db, job_id, S.COMPLETED)
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING", "COMPLETED"]
        assert running.coordinator.counters.notifications == 1


async def test_a_job_without_a_notification_is_found(pg_url: str, db: Database, tmp_path: Path) -> None:
    await registered(db, NODE, "elsewhere")
    job_id = await jobs.schedule(db, descriptor(), "elsewhere")
    async with node(pg_url, tmp_path, reconcile_interval_secs=0.2) as running:
        await set_status(db, job_id, "SCHEDULED")
        await running.one_job()
        assert running.coordinator.counters.notifications == 0


async def test_jobs_left_by_a_crash_are_taken_up(pg_url: str, db: Database, tmp_path: Path) -> None:
    await registered(db, NODE)
    left = {}
    for name, text in {"a": "SCHEDULED", "b": "running", "c": "STOP_REQUESTED", "d": "STOPPING"}.items():
        left[name] = await jobs.schedule(db, descriptor(name), NODE)
        await set_status(db, left[name], text)
    async with node(pg_url, tmp_path) as running:
        await until(lambda: len(running.jobs.running()) == 2)
        assert {j.descriptor.dataset_name for j in running.jobs.running()} == {"a", "b"}
        await becomes(db, left["c"], S.STOPPED)
        await becomes(db, left["d"], S.STOPPED)
        assert (await history(db, left["c"]))[1:] == ["STOPPING", "STOPPED"]
        assert (await history(db, left["b"])) == ["SCHEDULED"]  # resumed without a status write


async def test_malformed_and_foreign_notifications_are_outlived(pg_url: str, db: Database, tmp_path: Path) -> None:
    payloads = [
        "",
        "{",
        "[]",
        "null",
        '{"node_id":"worker-1"}',
        '{"node_id":"worker-1","payload":{"job_id":"x"}}',
        "\x01",
    ]
    async with node(pg_url, tmp_path) as running:
        for payload in [*payloads, "x" * 7000]:
            await execute(db, "select pg_notify('job_actions', %s)", payload)
        foreign = notifications.job_action_payload("other", 1, notifications.Action.START)
        unknown = notifications.job_action_payload(NODE, 4711, notifications.Action.START)
        for payload in (foreign, unknown):
            await execute(db, "select pg_notify('job_actions', %s)", payload)
        await jobs.schedule(db, descriptor(), NODE)
        await running.one_job()
        assert running.coordinator.counters.malformed_notifications == len(payloads) + 1
        assert running.coordinator.counters.notifications == 2


async def test_a_start_for_another_nodes_job_does_nothing(pg_url: str, db: Database, tmp_path: Path) -> None:
    await registered(db, "elsewhere")
    foreign = await jobs.schedule(db, descriptor("a"), "elsewhere")
    async with node(pg_url, tmp_path) as running:
        lie = notifications.job_action_payload(NODE, foreign, notifications.Action.START)
        await execute(db, "select pg_notify('job_actions', %s)", lie)
        await jobs.schedule(db, descriptor("b"), NODE)
        assert (await running.one_job()).descriptor.dataset_name == "b"
        assert await status(db, foreign) is S.SCHEDULED


@pytest.mark.parametrize(
    ("detail", "code"),
    [
        ({"kind": "materialize-raw"}, "INVALID_DESCRIPTOR"),
        ({"kind": "materialize-raw", "end_block": 7}, "INVALID_DESCRIPTOR"),
        ({"kind": "materialize-derived", "dataset_namespace": "_", "dataset_name": "x"}, "UNSUPPORTED_JOB_KIND"),
    ],
)
async def test_a_job_that_we_cannot_run_is_fatal(
    pg_url: str, db: Database, tmp_path: Path, detail: dict[str, object], code: str
) -> None:
    async with node(pg_url, tmp_path, reconcile_interval_secs=0.2) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        (await running.one_job()).complete()
        await becomes(db, job_id, S.COMPLETED)
        await execute(
            db,
            "insert into job_events (job_id, node_id, event_type, detail) values (%s, %s, 'SCHEDULED', %s::jsonb)",
            job_id,
            NODE,
            json.dumps(detail),
        )
        await set_status(db, job_id, "SCHEDULED")
        await becomes(db, job_id, S.FATAL)
        failed = await job(db, job_id)
        assert failed.detail["error_code"] == code
        assert failed.detail["error_context"]["attempt_index"] == 2


async def test_an_unknown_status_is_left_alone(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        await set_status(db, job_id, "PAUSED")
        hint = notifications.job_action_payload(NODE, job_id, notifications.Action.STOP)
        await execute(db, "select pg_notify('job_actions', %s)", hint)
        await until(lambda: running.coordinator.counters.unknown_statuses)
        assert started.running
        assert (await job(db, job_id)).written == "PAUSED"


# -- ending jobs ----------------------------------------------------------------------------------------------------


async def test_a_running_job_is_stopped(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        assert await jobs.request_stop(db, job_id)
        await becomes(db, job_id, S.STOPPED)
        assert started.stopped_within == 5.0
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING", "STOP_REQUESTED", "STOPPING", "STOPPED"]


async def test_a_job_that_completes_while_a_stop_is_asked_becomes_stopped(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        await set_status(db, job_id, "STOP_REQUESTED")  # and nobody has told the node yet
        started.complete()
        await becomes(db, job_id, S.STOPPED)


async def test_a_job_that_moved_away_is_cancelled_and_nothing_is_written(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    async with node(pg_url, tmp_path, reconcile_interval_secs=0.2) as running:
        await registered(db, "elsewhere")
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        await set_status(db, job_id, "RUNNING", "elsewhere")
        await until(lambda: started.cancelled)
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING"]


async def test_a_deleted_job_is_cancelled(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, reconcile_interval_secs=0.2) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        await execute(db, "delete from jobs where id = %s", job_id)
        await until(lambda: started.cancelled)


async def test_a_redeployed_job_is_drained_and_started_anew(pg_url: str, db: Database, tmp_path: Path) -> None:
    """As an Amp controller does it: SCHEDULED over RUNNING, with another descriptor."""
    async with node(pg_url, tmp_path, reconcile_interval_secs=0.2) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        first = await running.one_job()
        await execute(
            db,
            "insert into job_events (job_id, node_id, event_type, detail) values (%s, %s, 'SCHEDULED', %s::jsonb)",
            job_id,
            NODE,
            descriptor(end_block="9").to_json(),
        )
        await set_status(db, job_id, "SCHEDULED")
        await until(lambda: len(running.jobs.made) == 2)
        assert first.stopped_within is not None
        second = await running.one_job()
        assert second.descriptor.end_block == "9"
        assert await status(db, job_id) is S.RUNNING


async def test_a_failure_is_written_with_its_error(pg_url: str, db: Database, tmp_path: Path) -> None:
    cause = ProviderUnreachable(
        "https://user:secret@rpc.example/key refused", provider="alchemy", host="rpc.example", block=7
    )
    error = JobFailed("partition 0 failed", step="PARTITION_TASK", retryable=True)
    error.__cause__ = cause
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        (await running.one_job()).fail(error)
        await becomes(db, job_id, S.ERROR)
        detail = (await job(db, job_id)).detail
        assert detail["error_code"] == "PARTITION_TASK"
        assert detail["error_message"] == "partition 0 failed"
        context = detail["error_context"]
        assert context["stack_trace"] == ["https://rpc.example refused"]
        assert (context["attempt_index"], context["dataset"]) == (1, "_/eth")
        assert (context["provider"], context["error_class"], context["implementation"]) == (
            "alchemy",
            "transient",
            "ampd-ray",
        )
        assert (context["block_range_start"], context["block_range_end"]) == (7, 7)
        (event,) = await execute(db, "select detail from job_events where event_type = 'ERROR'")
        assert event.detail == detail
        (state,) = await execute(db, "select * from ampd_ray.job_state where job_id = %s", job_id)
        assert (state.consecutive_failures, state.last_error_code) == (1, "PARTITION_TASK")
        assert state.next_retry_at is not None


async def test_the_last_attempt_is_fatal(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, retry_max_attempts=2) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        for wanted in (S.ERROR, S.FATAL):
            (await running.one_job()).fail(DataFault("block 5 contradicts itself", block=5))
            await becomes(db, job_id, wanted)
            await jobs.reschedule(db, job_id, NODE)


async def test_a_job_scheduled_forty_times_is_never_left_in_error(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        await execute(
            db,
            "insert into job_events (job_id, node_id, event_type, detail) "
            "select job_id, node_id, event_type, detail from job_events, generate_series(1, 39) "
            "where event_type = 'SCHEDULED'",
        )
        started.fail(ProviderUnreachable("refused"))
        await becomes(db, job_id, S.FATAL)


async def test_one_bad_job_harms_no_other(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as running:
        bad = await jobs.schedule(db, descriptor("bad"), NODE)
        crashing = await running.one_job()
        good = await jobs.schedule(db, descriptor("good"), NODE)
        await until(lambda: len(running.jobs.running()) == 2)
        crashing.crash(RuntimeError("a bug"))
        await becomes(db, bad, S.ERROR)
        assert (await job(db, bad)).detail["error_code"] == "PANIC"
        running.jobs.refuse = ZeroDivisionError()
        ugly = await jobs.schedule(db, descriptor("ugly"), NODE)
        await becomes(db, ugly, S.ERROR)
        assert await status(db, good) is S.RUNNING
        assert not running.ended


# -- accidents ------------------------------------------------------------------------------------------------------


async def test_lost_sessions_are_replaced_and_jobs_go_on(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as running:
        counters = running.coordinator.counters
        await jobs.schedule(db, descriptor("a"), NODE)
        first = await running.one_job()
        reconciles, beats = counters.reconciles, counters.beats
        assert await cut_sessions(db) >= 3
        await until(lambda: counters.session_reconnects and counters.listens > 1 and counters.reconciles > reconciles)
        await until(lambda: counters.beats > beats)
        await jobs.schedule(db, descriptor("b"), NODE)
        await until(lambda: len(running.jobs.running()) == 2)
        assert first.running
        assert counters.job_starts == 2


async def test_connections_that_fall_silent_are_replaced_and_jobs_go_on(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    """Half-open sockets: nothing is reset, nothing is answered."""
    async with proxied(pg_url) as (proxy, through), node(through, tmp_path) as running:
        counters = running.coordinator.counters
        await jobs.schedule(db, descriptor("a"), NODE)
        first = await running.one_job()
        proxy.go_silent()
        await until(lambda: counters.session_reconnects and counters.listens > 1, within=60)
        await jobs.schedule(db, descriptor("b"), NODE)
        await until(lambda: len(running.jobs.running()) == 2, within=60)
        assert first.running
        assert counters.late_beats >= 1


async def test_a_job_scheduled_while_nobody_listens_is_found(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as running:
        await cut_sessions(db)
        await jobs.schedule(db, descriptor(), NODE)
        await running.one_job()


async def test_a_job_ends_though_its_status_cannot_be_written_at_once(
    pg_url: str, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([DatabaseUnavailable("away"), DatabaseUnavailable("still away")])
    real = jobs.transition

    async def flaky(*args: object, **kwargs: object) -> bool:
        for failure in failures:
            raise failure
        return await real(*args, **kwargs)  # type: ignore[arg-type]

    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        monkeypatch.setattr(jobs, "transition", flaky)
        started.complete()
        await becomes(db, job_id, S.COMPLETED)
        assert running.coordinator.counters.database_retries == 2


async def test_a_write_that_did_happen_is_not_repeated(
    pg_url: str, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COMMIT went through, its acknowledgement did not."""
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        settle = running.coordinator.runner._settler.write

        async def lost(order: object) -> bool:
            await settle(order)  # type: ignore[arg-type]
            raise DatabaseUnavailable("connection lost during COMMIT")

        monkeypatch.setattr(running.coordinator.runner._settler, "write", lost)
        started.fail(ProviderUnreachable("refused"))
        await becomes(db, job_id, S.ERROR)
        await until(lambda: not running.coordinator.runner.state.tasks)
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING", "ERROR"]
        (state,) = await execute(db, "select consecutive_failures from ampd_ray.job_state")
        assert state.consecutive_failures == 1


async def test_a_fenced_node_ends_with_3_and_writes_nothing(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        await execute(db, "update ampd_ray.node_lease set incarnation = gen_random_uuid(), epoch = epoch + 1")
        assert await running.code() == 3
        assert started.cancelled
        assert await status(db, job_id) is S.RUNNING


async def test_a_job_that_lost_its_leases_and_is_still_ours_starts_again_soon(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        for count in (1, 2, 3):  # a periodic pass would come after a minute
            await until(lambda count=count: len(running.jobs.made) == count and running.jobs.running())  # type: ignore[misc]
            running.jobs.made[-1].crash(Fenced("its leases were taken"))
        await until(lambda: running.coordinator.counters.job_starts == 4)
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING"]


async def test_who_was_asleep_takes_nobody_for_dead_at_once(
    pg_url: str, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(pg_url, tmp_path) as running:
        counters = running.coordinator.counters
        monkeypatch.setattr(claims, "LATE_LOOK", timedelta(0))  # so that each look comes late
        await until(lambda: counters.takeover_looks >= 2)
        await registered(db, "other")
        await execute(db, "insert into ampd_ray.node_lease values ('other', 1, gen_random_uuid(), now())")
        await execute(db, "update workers set heartbeat_at = now() - interval '6 s' where node_id = 'other'")
        job_id = await jobs.schedule(db, descriptor(), "other")
        looks = counters.takeover_looks
        await until(lambda: counters.takeover_looks >= looks + 3)
        assert (await job(db, job_id)).node_id == "other"
        monkeypatch.undo()
        monkeypatch.setattr(takeover, "SEEN_SECS", 0.1)
        await running.one_job()
        assert counters.takeovers == 1


# -- end ------------------------------------------------------------------------------------------------------------


async def test_a_node_that_is_abandoned_is_free_at_once_though_its_jobs_do_not_end(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    async with node(pg_url, tmp_path) as running:
        running.jobs.stubborn = True
        job_id = await jobs.schedule(db, descriptor(), NODE)
        await running.one_job()
        async with db.connection() as conn:
            await leases.acquire(conn, [5, 6], job_id, NODE, running.coordinator.incarnation)
        await running.coordinator.abandon()
        assert await execute(db, "select 1 from ampd_ray.node_lease where expires_at <= now() and draining")
        assert not await execute(db, "select 1 from ampd_ray.location_lease where expires_at > now()")
        assert not await execute(db, "select 1 from workers where heartbeat_at > now() - interval '5 s'")
        beats = running.coordinator.counters.beats
        assert await running.code() == 1
        assert running.coordinator.counters.beats == beats
        assert await status(db, job_id) is S.RUNNING


async def test_a_node_that_is_abandoned_while_it_starts_ends(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path) as first, unstarted(pg_url, tmp_path, node_lock_timeout_secs=300) as second:
        second.start()
        await until(lambda: second.coordinator.counters.lock_waits)
        await second.coordinator.abandon()
        assert await second.code() == 1
        assert not first.ended
        assert not await execute(db, "select 1 from ampd_ray.node_lease where draining")


async def test_a_drained_node_leaves_rows_running_and_is_free_at_once(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    async with node(pg_url, tmp_path) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        running.coordinator.ask_drain()
        assert await running.code() == 0
        assert started.stopped_within == 2.5  # half of a time this short is for dropping
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING"]
        async with db.connection() as conn:
            (row,) = await workers.list_workers(conn)
        assert (row.alive, row.draining) == (False, True)
        assert await execute(db, "select 1 from ampd_ray.node_lease where expires_at <= now() and draining")
    async with node(pg_url, tmp_path) as again:
        assert (await again.one_job()).row.job_id == job_id  # the same node resumes


async def test_a_drain_is_cut_short_by_a_job_that_ends_by_no_means(
    pg_url: str, tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def run(self: FakeJob) -> JobOutcome:
        self.started.set()
        while not never.is_set():
            with suppress(asyncio.CancelledError):
                await never.wait()
        return JobOutcome(Outcome.STOPPED)

    monkeypatch.setattr(FakeJob, "run", run)
    async with node(pg_url, tmp_path, drain_timeout_secs=0.1) as running:
        await jobs.schedule(db, descriptor(), NODE)
        await running.one_job()
        running.coordinator.ask_drain()
        assert await running.code() == 1
        never.set()


async def test_a_node_that_is_taken_while_it_drains_is_fenced(
    pg_url: str, tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(pg_url, tmp_path, drain_timeout_secs=300) as running:
        running.jobs.stubborn = True
        await jobs.schedule(db, descriptor(), NODE)
        await running.one_job()

        async def taken() -> None:
            raise Fenced("another process runs it")

        monkeypatch.setattr(running.coordinator.heartbeat, "retire", taken)
        running.coordinator.ask_drain()
        assert await running.code() == 3


async def test_a_node_whose_machine_goes_drains_before_that_and_may_still_be_asked_to(
    pg_url: str, tmp_path: Path, db: Database
) -> None:
    async with node(pg_url, tmp_path, drain_timeout_secs=300) as running:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        started = await running.one_job()
        running.coordinator.leave(10.0)
        running.coordinator.leave(2.0)
        running.coordinator.ask_drain()  # an orchestrator's signal follows upon its notice
        assert await running.code() == 0
        assert started.stopped_within == 3.75  # half of what is for draining, three quarters
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING"]


async def test_a_second_request_ends_at_once(pg_url: str, tmp_path: Path, db: Database) -> None:
    async with node(pg_url, tmp_path, drain_timeout_secs=300) as running:
        running.jobs.stubborn = True
        await jobs.schedule(db, descriptor(), NODE)
        await running.one_job()
        running.coordinator.ask_drain()
        await asyncio.sleep(0)
        running.coordinator.ask_drain()
        assert await running.code() == 1


async def test_a_node_that_is_still_starting_ends_when_asked(pg_url: str, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path), unstarted(pg_url, tmp_path, node_lock_timeout_secs=300) as second:
        second.start()
        await until(lambda: second.coordinator.counters.lock_waits)
        second.coordinator.ask_drain()
        assert await second.code() == 0
