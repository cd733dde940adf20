"""Whole nodes on a real server, with fake jobs: who takes over what when one of them dies, drains or is cut off."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from ampd_ray.errors import NodeInUse
from ampd_ray.metadb import jobs, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.node.coordinator import Coordinator
from tests.fakes.cables import cable
from tests.fakes.jobs import FakeJobs
from tests.postgres.nodes import NODE, Node, descriptor, execute, history, job, node, settings_in, until

S = JobStatus
GROUP = "here"
BOUND_SECS = 9.0


async def dead_node(db: Database, node_id: str, *, group: str = GROUP, implementation: str = "ampd-ray") -> None:
    """A node as it looks some seconds after it was killed."""
    async with db.connection() as conn:
        await workers.register(conn, node_id, {"implementation": implementation, "failover_group": group})
        await workers.take_node_lease(conn, node_id, uuid4(), timedelta(0))
    await execute(db, "update workers set heartbeat_at = now() - interval '6 s' where node_id = %s", node_id)


async def job_of(db: Database, node_id: str, name: str = "eth", status: str = "RUNNING") -> int:
    job_id = await jobs.schedule(db, descriptor(name), node_id)
    await execute(db, "update jobs_status set status = %s where job_id = %s", status, job_id)
    return job_id


async def runs_on(db: Database, job_id: int, node_id: str, status: JobStatus = S.RUNNING) -> bool:
    found = await job(db, job_id)
    return (found.node_id, found.status) == (node_id, status)


async def has_looked(*nodes: Node, times: int = 2) -> None:
    """Wait until each node has looked around so many times more."""
    before = [each.coordinator.counters.takeover_looks for each in nodes]
    for each, looks in zip(nodes, before, strict=True):
        await until(lambda each=each, looks=looks: each.coordinator.counters.takeover_looks >= looks + times)  # type: ignore[misc]


# -- a node that is cut off -------------------------------------------------------------------------------------------


async def test_the_job_of_a_node_that_is_cut_off_moves_and_the_old_node_changes_nothing_any_more(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    async with cable(pg_url) as line, node(line.url, tmp_path, "old") as old, node(pg_url, tmp_path, "peer") as peer:
        job_id = await jobs.schedule(db, descriptor(), "old")
        first = await old.one_job()
        await until(lambda: runs_on(db, job_id, "old"))
        await line.cut()
        cut_at = time.monotonic()
        second = await peer.one_job()
        assert time.monotonic() - cut_at < BOUND_SECS
        assert second.row.job_id == job_id
        assert second.descriptor.same_work(descriptor())
        first.complete()  # it wants to write COMPLETED, and cannot
        await until(lambda: old.coordinator.counters.database_retries)
        line.mend()
        await until(lambda: not old.coordinator.runner.state.tasks)
        assert not old.ended  # it is a node as any other again
        assert await runs_on(db, job_id, "peer")
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING", "RUNNING"]
        (event,) = await execute(db, "select node_id, detail from job_events order by id desc limit 1")
        assert (event.node_id, event.detail) == (
            "peer",
            {"reassigned_from": "old", "reason": "dead", "epoch": 0},
        )
        assert peer.coordinator.counters.takeovers == 1
        second.complete()
        await until(lambda: runs_on(db, job_id, "peer", S.COMPLETED))


async def test_a_process_whose_node_another_runs_writes_nothing_about_its_jobs(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    """It ended its run while it was cut off; the node was started anew, and runs the job."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    async with cable(pg_url) as line, node(line.url, tmp_path / "old", takeover=False) as old:
        job_id = await jobs.schedule(db, descriptor(), NODE)
        first = await old.one_job()
        await until(lambda: runs_on(db, job_id, NODE))
        await line.cut()
        first.complete()
        await until(lambda: old.coordinator.counters.database_retries)
        async with node(pg_url, tmp_path / "new", takeover=False) as new:
            second = await new.one_job()
            line.mend()
            assert await old.code() == 3
            assert await history(db, job_id) == ["SCHEDULED", "RUNNING"]
            assert second.running
            second.complete()
            await until(lambda: runs_on(db, job_id, NODE, S.COMPLETED))


async def test_the_old_node_drops_a_job_that_still_runs_there(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with cable(pg_url) as line, node(line.url, tmp_path, "old") as old, node(pg_url, tmp_path, "peer") as peer:
        job_id = await jobs.schedule(db, descriptor(), "old")
        first = await old.one_job()
        await line.cut()
        await peer.one_job()
        assert first.running
        line.mend()
        await until(lambda: not old.coordinator.runner.state.tasks)
        assert first.cancelled
        assert await runs_on(db, job_id, "peer")
        # ... and takes it back when the peer drains
        peer.coordinator.ask_drain()
        assert await peer.code() == 0
        await until(lambda: runs_on(db, job_id, "old"))
        await old.one_job()


async def test_a_short_cut_moves_nothing(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with cable(pg_url) as line, node(line.url, tmp_path, "old") as old, node(pg_url, tmp_path, "peer") as peer:
        job_id = await jobs.schedule(db, descriptor(), "old")
        first = await old.one_job()
        await line.cut()
        await until(lambda: old.coordinator.counters.late_beats)
        line.mend()
        reconnects, beats = old.coordinator.counters.session_reconnects, old.coordinator.counters.beats
        await until(lambda: old.coordinator.counters.session_reconnects > reconnects)
        await until(lambda: old.coordinator.counters.beats > beats)
        await has_looked(peer, times=6)
        assert await runs_on(db, job_id, "old")
        assert first.running


# -- a node that drains -----------------------------------------------------------------------------------------------


async def test_the_job_of_a_draining_node_moves_at_once(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, "old") as old, node(pg_url, tmp_path, "peer") as peer:
        job_id = await jobs.schedule(db, descriptor(), "old")
        await old.one_job()
        old.coordinator.ask_drain()
        assert await old.code() == 0
        ended_at = time.monotonic()
        await peer.one_job()
        assert time.monotonic() - ended_at < 3
        assert await history(db, job_id) == ["SCHEDULED", "RUNNING", "RUNNING"]
        (event,) = await execute(db, "select detail from job_events order by id desc limit 1")
        assert event.detail["reason"] == "released"


async def test_the_job_of_a_node_that_still_drains_stays(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, "old") as old, node(pg_url, tmp_path, "peer") as peer:
        old.jobs.stubborn = True
        job_id = await jobs.schedule(db, descriptor(), "old")
        await old.one_job()
        old.coordinator.ask_drain()
        await until(lambda: old.coordinator.heartbeat.retired)
        await has_looked(peer)
        assert await runs_on(db, job_id, "old")
        old.coordinator.ask_drain()  # the second request ends it at once
        asked_at = time.monotonic()
        assert await old.code() == 1
        assert time.monotonic() - asked_at < 4
        await until(lambda: runs_on(db, job_id, "peer"))


async def test_a_draining_node_takes_nothing(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, "peer", drain_timeout_secs=60) as peer:
        peer.jobs.stubborn = True
        await jobs.schedule(db, descriptor("base"), "peer")
        await peer.one_job()
        peer.coordinator.ask_drain()
        await until(lambda: peer.coordinator.heartbeat.retired)
        await dead_node(db, "old")
        job_id = await job_of(db, "old")
        await has_looked(peer)
        assert await runs_on(db, job_id, "old")


# -- what is left by the dead -----------------------------------------------------------------------------------------


async def test_a_stop_that_a_dead_node_did_not_finish_is_finished(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, "peer") as peer:
        await dead_node(db, "old")
        stopping, asked = await job_of(db, "old", "a", "STOPPING"), await job_of(db, "old", "b", "STOP_REQUESTED")
        scheduled = await job_of(db, "old", "c", "SCHEDULED")
        for job_id in (stopping, asked):
            await until(lambda job_id=job_id: runs_on(db, job_id, "peer", S.STOPPED))  # type: ignore[misc]
        await until(lambda: runs_on(db, scheduled, "peer"))
        assert await history(db, stopping) == ["SCHEDULED", "STOPPED"]
        assert await history(db, asked) == ["SCHEDULED", "STOPPING", "STOPPED"]
        assert await history(db, scheduled) == ["SCHEDULED", "RUNNING"]
        assert (await peer.one_job()).row.job_id == scheduled


@pytest.mark.parametrize(
    "facts", [{"implementation": "amp"}, {"group": "elsewhere"}], ids=["an Amp node", "another group"]
)
async def test_jobs_of_others_are_never_touched(
    pg_url: str, db: Database, tmp_path: Path, facts: dict[str, str]
) -> None:
    async with node(pg_url, tmp_path, "peer") as peer:
        await execute(db, "insert into physical_table_revisions (id, path) values (1, 'a')")  # else its lease goes
        await dead_node(db, "old", **facts)
        left = {status: await job_of(db, "old", status.lower(), status) for status in ("RUNNING", "STOPPING")}
        await execute(
            db,
            "insert into ampd_ray.location_lease select 1, 5, %s, 'old', gen_random_uuid(), now()",
            left["RUNNING"],
        )
        await has_looked(peer, times=3)
        for status, job_id in left.items():
            assert await runs_on(db, job_id, "old", S(status))
        assert await execute(db, "select 1 from ampd_ray.location_lease where epoch = 5 and node_id = 'old'")


async def test_a_real_amp_node_has_no_node_lease_at_all(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, "peer") as peer:
        await execute(db, "insert into workers (node_id, heartbeat_at) values ('amp', now() - interval '1 hour')")
        job_id = await job_of(db, "amp")
        await has_looked(peer, times=3)
        assert await runs_on(db, job_id, "amp")


async def test_take_over_can_be_switched_off(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, "peer", takeover=False) as peer:
        await dead_node(db, "old")
        job_id = await job_of(db, "old")
        beats = peer.coordinator.counters.beats
        await until(lambda: peer.coordinator.counters.beats > beats + 3)
        assert peer.coordinator.counters.takeover_looks == 0
        assert await runs_on(db, job_id, "old")


async def test_a_full_node_leaves_jobs_to_others_but_ends_what_is_to_end(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    async with node(pg_url, tmp_path, "peer", max_jobs=1) as peer:
        await jobs.schedule(db, descriptor("base"), "peer")
        await peer.one_job()
        await dead_node(db, "old")
        running, stopping = await job_of(db, "old", "a"), await job_of(db, "old", "b", "STOPPING")
        await until(lambda: runs_on(db, stopping, "peer", S.STOPPED))
        await has_looked(peer)
        assert await runs_on(db, running, "old")
        (await peer.one_job()).complete()
        await until(lambda: runs_on(db, running, "peer"))


async def test_many_jobs_move_four_a_second_to_all_peers(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, "b") as b, node(pg_url, tmp_path, "c") as c:
        await dead_node(db, "old")
        for number in range(24):
            await job_of(db, "old", f"set_{number}")
        await until(lambda: len(b.jobs.running()) + len(c.jobs.running()) == 24)
        assert len(b.jobs.running()) >= 4
        assert len(c.jobs.running()) >= 4
        taken = await execute(db, "select node_id, created_at from job_events where event_type = 'RUNNING' order by 2")
        assert len(taken) == 24  # each once
        for peer in ("b", "c"):
            times = [row.created_at for row in taken if row.node_id == peer]
            for start in times:  # a claim is counted when it is chosen, some moments before it is written
                assert sum(start <= when < start + timedelta(seconds=0.5) for when in times) <= 4


async def test_a_job_that_ends_every_node_ends_in_an_error(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with node(pg_url, tmp_path, "peer") as peer:
        await dead_node(db, "old")
        job_id = await job_of(db, "old")
        await execute(db, "update jobs_status set node_id = 'nobody'")
        taken = (
            "insert into job_events (job_id, node_id, event_type, detail) "
            "select %s, 'x', 'RUNNING', '{\"reassigned_from\": \"y\"}' from generate_series(1, 5)"
        )
        await execute(db, taken, job_id)
        await execute(db, "update jobs_status set node_id = 'old'")
        await until(lambda: runs_on(db, job_id, "peer", S.ERROR))
        detail = (await job(db, job_id)).detail
        assert detail["error_code"] == "TAKEOVER_LOOP"
        assert "taken over 5 times within 10 minutes" in detail["error_message"]
        assert detail["error_context"]["dataset"] == "_/eth"
        assert (await history(db, job_id))[-1] == "ERROR"
        (state,) = await execute(db, "select consecutive_failures, next_retry_at from ampd_ray.job_state")
        assert state.consecutive_failures == 1
        assert state.next_retry_at is not None
        assert peer.jobs.made == []


# -- the node itself --------------------------------------------------------------------------------------------------


async def test_a_process_that_is_not_its_nodes_any_more_takes_nothing(
    pg_url: str, db: Database, tmp_path: Path
) -> None:
    async with node(pg_url, tmp_path, "peer") as peer:
        await dead_node(db, "old")
        job_id = await job_of(db, "old", status="COMPLETED")
        await execute(db, "update ampd_ray.node_lease set incarnation = %s where node_id = 'peer'", uuid4())
        await execute(db, "update jobs_status set status = 'RUNNING'")
        assert await peer.code() == 3
        assert await runs_on(db, job_id, "old")


async def test_of_two_processes_with_one_node_id_one_survives(pg_url: str, db: Database, tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        for number in range(5):
            pair = [
                Coordinator(settings_in(tmp_path), f"n{number}", pg_url, FakeJobs(), {"version": "0"}) for _ in range(2)
            ]
            ends = [asyncio.create_task(each.run()) for each in pair]
            done, alive = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            assert (len(done), len(alive)) == (1, 1)
            assert isinstance(done.pop().exception(), NodeInUse)
            for each in pair:
                each.ask_drain()
            assert await alive.pop() == 0
