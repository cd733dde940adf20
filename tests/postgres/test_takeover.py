"""Jobs change hands on real servers: what is seen of them, and the one transaction that takes one (7.6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from ampd_ray.errors import DatabaseUnavailable, Fenced
from ampd_ray.metadb import jobs, leases, takeover, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.statuses import JobStatus
from ampd_ray.metadb.takeover import Candidate, Claim, Failure, Move, Taker
from tests.postgres.nodes import descriptor, execute, history, job

S = JobStatus
OLD, PEER = "worker-1", "worker-2"
ME = Taker("worker-3", uuid4(), timedelta(seconds=4))


@dataclass
class Site:
    """A job of a dead node, which holds two revisions, and nodes that live."""

    db: Database
    incarnation: UUID = field(default_factory=uuid4)
    id: int = 0

    async def candidates(self, taker: Taker = ME) -> list[Candidate]:
        async with self.db.connection() as conn:
            return await takeover.candidates(conn, taker)

    async def do(self, statement: str, *args: Any) -> list[Any]:
        return await execute(self.db, statement, *args)

    async def leases(self) -> list[tuple[int, int, str]]:
        rows = await self.do("select location_id, epoch, node_id from ampd_ray.location_lease order by 1")
        return [tuple(row) for row in rows]

    async def row(self) -> tuple[str, JobStatus]:
        found = await job(self.db, self.id)
        return found.node_id, found.status

    async def claim(self, *moves: Move, taker: Taker = ME) -> Claim | None:
        made = Claim(moves or (Move(S.RUNNING, {"reassigned_from": OLD}),))
        return await takeover.claim(self.db, self.id, taker, lambda candidate, epoch: made)


@pytest.fixture
async def site(db: Database) -> Site:
    made = Site(db)
    info = {"implementation": "ampd-ray", "failover_group": "here"}
    async with db.connection() as conn:
        for node_id in (OLD, PEER, ME.node_id):
            await workers.register(conn, node_id, info)
        await workers.take_node_lease(conn, ME.node_id, ME.incarnation)
        await workers.take_node_lease(conn, OLD, made.incarnation, timedelta(0))
        made.id = await jobs.schedule(db, descriptor(), OLD)
        await jobs.transition(conn, made.id, S.RUNNING, OLD)
        await leases.acquire(conn, [5, 6], made.id, OLD, made.incarnation, timedelta(0))
    await made.do("update workers set heartbeat_at = heartbeat_at - interval '6 s' where node_id = %s", OLD)
    return made


async def test_what_is_seen_of_a_dead_nodes_job(site: Site) -> None:
    (found,) = await site.candidates()
    assert found == Candidate(
        job_id=site.id,
        node_id=OLD,
        written="RUNNING",
        implementation="ampd-ray",
        failover_group="here",
        silent=True,
        expired=True,
        draining=False,
        lapsed=True,
        fruitless=0,
    )


async def test_a_node_sees_no_jobs_of_its_own(site: Site) -> None:
    assert await site.candidates(replace(ME, node_id=OLD)) == []


@pytest.mark.parametrize(
    "change",
    [
        "update ampd_ray.node_lease set expires_at = now() + interval '1 min'",
        "delete from ampd_ray.node_lease where node_id = 'worker-1'",  # a node that never had one: Amp's
        "update jobs_status set status = 'COMPLETED'",
        "update jobs_status set status = 'SOMETHING_ELSE'",
    ],
)
async def test_what_is_no_candidate_at_all(site: Site, change: str) -> None:
    await site.do(change)
    assert await site.candidates() == []
    assert await site.claim() is None


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ("update jobs_status set status = 'stopping'", {"written": "STOPPING"}),
        ('update workers set info = \'{"version": "1"}\'', {"implementation": None, "failover_group": None}),
        ("update workers set heartbeat_at = now()", {"silent": False}),
        ("update ampd_ray.node_lease set draining = true", {"draining": True}),
        (
            "update ampd_ray.location_lease set expires_at = now() + interval '1 min' where location_id = 6",
            {"lapsed": False},
        ),
        ("delete from ampd_ray.location_lease", {"lapsed": True}),
    ],
)
async def test_each_fact_is_seen(site: Site, change: str, seen: dict[str, Any]) -> None:
    (before,) = await site.candidates()
    await site.do(change)
    assert await site.candidates() == [replace(before, **seen)]


async def test_only_take_overs_without_progress_since_it_was_scheduled_are_counted(site: Site) -> None:
    async def fruitless() -> int:
        return (await site.candidates())[0].fruitless

    async def taken(detail: str = '{"reassigned_from": "x"}', age: str = "1 s") -> None:
        add = (
            "insert into job_events (job_id, node_id, event_type, detail, created_at) "
            "values (%s, 'x', 'RUNNING', %s::jsonb, now() - %s::interval)"
        )
        await site.do(add, site.id, detail, age)

    await taken()
    await taken()
    await taken("null")
    await taken('"text"')
    await taken(age="11 min")
    assert await fruitless() == 2
    async with site.db.connection() as conn:
        await jobs.record_progress(conn, site.id)
    assert await fruitless() == 0
    await taken(age="0 s")
    assert await fruitless() == 1
    again = "insert into job_events (job_id, node_id, event_type) values (%s, 'x', 'SCHEDULED')"
    await site.do(again, site.id)
    assert await fruitless() == 0


async def test_a_job_is_taken_with_its_leases(site: Site) -> None:
    seen: list[tuple[Candidate, int]] = []
    detail = {"reassigned_from": OLD, "reason": "dead", "epoch": 2}

    def decide(candidate: Candidate, epoch: int) -> Claim:
        seen.append((candidate, epoch))
        return Claim((Move(S.RUNNING, detail),))

    (candidate,) = await site.candidates()
    assert await takeover.claim(site.db, site.id, ME, decide) == Claim((Move(S.RUNNING, detail),))
    assert seen == [(candidate, 2)]
    assert await site.row() == (ME.node_id, S.RUNNING)
    assert await site.leases() == [(5, 2, ME.node_id), (6, 2, ME.node_id)]
    assert await history(site.db, site.id) == ["SCHEDULED", "RUNNING", "RUNNING"]
    (event,) = await site.do("select node_id, detail from job_events order by id desc limit 1")
    assert (event.node_id, event.detail) == (ME.node_id, detail)
    (row,) = await site.do("select j.node_id, s.detail from jobs j join jobs_status s on s.job_id = j.id")
    assert (row.node_id, row.detail) == (OLD, None)  # the first node ever assigned stays what it is
    assert await site.candidates() == []


async def test_the_old_owner_can_do_nothing_any_more(site: Site) -> None:
    await site.claim()
    async with site.db.connection() as conn:
        for status in (S.COMPLETED, S.ERROR, S.FATAL):
            assert not await jobs.transition(conn, site.id, status, OLD)
        assert await leases.renew(conn, [5, 6], site.incarnation) == leases.Renewal(frozenset(), frozenset())
        await leases.release(conn, site.incarnation)
        with pytest.raises(Fenced):
            await leases.acquire(conn, [5, 6], site.id, OLD, site.incarnation)
    with pytest.raises(Fenced):
        async with site.db.transaction() as commit:
            await leases.lock_for_commit(commit, {5: 1, 6: 1}, site.incarnation)
    assert await site.leases() == [(5, 2, ME.node_id), (6, 2, ME.node_id)]


async def test_the_new_owner_starts_under_a_higher_epoch_at_once(site: Site) -> None:
    await site.claim()
    async with site.db.connection() as conn:
        assert await leases.acquire(conn, [5, 6], site.id, ME.node_id, ME.incarnation) == {5: 3, 6: 3}


async def test_a_stop_is_settled_and_its_leases_are_free(site: Site) -> None:
    await site.do("update jobs_status set status = 'STOP_REQUESTED'")
    await site.claim(Move(S.STOPPING), Move(S.STOPPED))
    assert await site.row() == (ME.node_id, S.STOPPED)
    assert (await history(site.db, site.id))[-2:] == ["STOPPING", "STOPPED"]
    assert await site.do("select 1 from ampd_ray.location_lease where expires_at > now()") == []


async def test_an_error_is_kept_and_counted(site: Site) -> None:
    made = Claim((Move(S.ERROR, {"error_code": "X"}),), Failure("X", "bounded", 1.0, timedelta(seconds=300)))
    await takeover.claim(site.db, site.id, ME, lambda candidate, epoch: made)
    found = await job(site.db, site.id)
    assert (found.node_id, found.status, found.detail) == (ME.node_id, S.ERROR, {"error_code": "X"})
    (state,) = await site.do("select consecutive_failures, last_error_code, next_retry_at from ampd_ray.job_state")
    assert (state.consecutive_failures, state.last_error_code) == (1, "X")
    assert state.next_retry_at is not None


# -- what stands in the way -------------------------------------------------------------------------------------------


async def unchanged(site: Site, status: JobStatus = S.RUNNING) -> bool:
    return await site.row() == (OLD, status) and await site.leases() == [(5, 1, OLD), (6, 1, OLD)]


async def test_a_no_changes_nothing(site: Site) -> None:
    assert await takeover.claim(site.db, site.id, ME, lambda candidate, epoch: None) is None
    assert await unchanged(site)


async def test_a_lease_that_is_held_keeps_the_job(site: Site) -> None:
    await site.do("update ampd_ray.location_lease set expires_at = now() + interval '1 min' where location_id = 6")
    assert await site.claim() is None
    assert await unchanged(site)


async def test_a_node_that_came_back_meanwhile_keeps_its_job(site: Site) -> None:
    async with site.db.connection() as conn:
        await workers.take_node_lease(conn, OLD, uuid4())
    assert await site.claim() is None
    assert await unchanged(site)


@pytest.mark.parametrize("change", ["expires_at = now()", "draining = true", "incarnation = gen_random_uuid()"])
async def test_who_is_not_fit_takes_nothing(site: Site, change: str) -> None:
    """A process that was asleep, drains, or is no longer the one of its node."""
    await site.do(f"update ampd_ray.node_lease set {change} where node_id = %s", ME.node_id)
    assert await site.claim() is None
    assert await unchanged(site)


async def test_a_locked_status_is_left_for_the_next_look(site: Site) -> None:
    async with site.db.transaction() as other:
        await other.execute(b"select 1 from jobs_status for update")
        assert await asyncio.wait_for(site.claim(), 5) is None
    assert await unchanged(site)
    assert await site.claim() is not None


async def test_a_commit_under_way_is_not_waited_for_long(site: Site) -> None:
    async with site.db.transaction() as commit:
        await leases.lock_for_commit(commit, {5: 1, 6: 1}, site.incarnation)
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(site.claim(), 5)
    assert await unchanged(site)


async def test_of_many_that_try_at_once_one_gets_the_job(site: Site) -> None:
    takers = [Taker(f"taker-{number}", uuid4(), ME.ttl) for number in range(8)]
    async with site.db.connection() as conn:
        for taker in takers:
            await workers.take_node_lease(conn, taker.node_id, taker.incarnation, timedelta(minutes=1))
    made = await asyncio.gather(*(site.claim(taker=taker) for taker in takers), return_exceptions=True)
    winners = [taker for taker, claim in zip(takers, made, strict=True) if isinstance(claim, Claim)]
    assert len(winners) == 1
    assert await site.row() == (winners[0].node_id, S.RUNNING)
    assert {(epoch, node) for _, epoch, node in await site.leases()} == {(2, winners[0].node_id)}
    assert await history(site.db, site.id) == ["SCHEDULED", "RUNNING", "RUNNING"]
