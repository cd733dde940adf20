"""Leases: epochs only rise, and only the holder of the newest one commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from ampd_ray.errors import Fenced, LeaseHeld
from ampd_ray.metadb import leases
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.leases import Renewal

ONE, TWO = uuid4(), uuid4()


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[Connection]:
    """A session on a database where job 1 is on node one."""
    async with db.session() as conn:
        await conn.execute(
            """
            insert into workers (node_id, heartbeat_at) values ('one', now());
            insert into jobs (node_id, idempotency_key) values ('one', 'key');
            insert into jobs_status (job_id, node_id, status) values (1, 'one', 'RUNNING');
            """
        )
        yield conn


async def rows(conn: Connection) -> list[Any]:
    query = "select location_id, epoch, expires_at > now() as held from ampd_ray.location_lease order by 1"
    return [tuple(row) for row in await (await conn.execute(query)).fetchall()]


async def expire(conn: Connection) -> None:
    await conn.execute(b"update ampd_ray.location_lease set expires_at = now()")


async def test_each_acquisition_has_a_higher_epoch(conn: Connection) -> None:
    assert await leases.acquire(conn, [3, 1, 2], 1, "one", ONE) == {1: 1, 2: 1, 3: 1}
    assert await leases.acquire(conn, [2], 1, "one", ONE) == {2: 2}
    assert await rows(conn) == [(1, 1, True), (2, 2, True), (3, 1, True)]


async def test_what_somebody_else_holds_is_taken_when_it_has_run_out(conn: Connection) -> None:
    await leases.acquire(conn, [1], 1, "one", ONE)
    with pytest.raises(LeaseHeld, match=r"node one holds the lease of revision 1 for another [34]\.\d s") as raised:
        await leases.acquire(conn, [1], 1, "one", TWO)
    assert 3 < raised.value.for_secs <= 4
    assert await rows(conn) == [(1, 1, True)]
    await expire(conn)
    assert await leases.acquire(conn, [1], 1, "one", TWO) == {1: 2}


async def test_another_job_of_the_same_process_waits_as_well(conn: Connection) -> None:
    await leases.acquire(conn, [1], 1, "one", ONE)
    await conn.execute(b"update ampd_ray.location_lease set job_id = 2")
    with pytest.raises(LeaseHeld):
        await leases.acquire(conn, [1], 1, "one", ONE)


async def test_all_are_taken_or_none(conn: Connection) -> None:
    await leases.acquire(conn, [2], 1, "one", ONE)
    with pytest.raises(LeaseHeld) as raised:
        await leases.acquire(conn, [1, 2, 3], 1, "one", TWO)
    assert raised.value.details["locations"] == [2]
    assert await rows(conn) == [(2, 1, True)]


async def test_who_asks_for_what_is_just_running_out_may_ask_again_soon(conn: Connection) -> None:
    await leases.acquire(conn, [1], 1, "one", ONE, timedelta(milliseconds=1))
    async with conn.transaction():  # time stands still in a transaction
        await conn.execute(b"update ampd_ray.location_lease set expires_at = now() + interval '1 microsecond'")
        with pytest.raises(LeaseHeld) as raised:
            await leases.acquire(conn, [1], 1, "one", TWO)
    assert raised.value.for_secs == pytest.approx(0.05)


@pytest.mark.parametrize(("job_id", "node_id"), [(1, "two"), (2, "one")])
async def test_nothing_is_taken_for_a_job_that_is_not_ours(conn: Connection, job_id: int, node_id: str) -> None:
    with pytest.raises(Fenced, match=f"job {job_id} is not on node {node_id}"):
        await leases.acquire(conn, [1, 2], job_id, node_id, ONE)
    assert await rows(conn) == []


async def test_of_many_that_acquire_at_once_one_gets_all(db: Database, conn: Connection) -> None:
    async def take(ids: list[int]) -> dict[int, int]:
        async with db.transaction() as own:
            return await leases.acquire(own, ids, 1, "one", uuid4())

    for turn in range(1, 4):
        tries = (take([2, 1, 3] if number % 2 else [3, 2]) for number in range(8))
        taken = await asyncio.gather(*tries, return_exceptions=True)
        (epochs,) = (result for result in taken if isinstance(result, dict))
        assert sum(isinstance(result, LeaseHeld) for result in taken) == 7
        assert max(epochs.values()) <= turn
        await expire(conn)


async def test_renewing_keeps_what_is_still_ours(conn: Connection) -> None:
    await leases.acquire(conn, [1, 2], 1, "one", ONE)
    await expire(conn)
    await leases.acquire(conn, [2], 1, "one", TWO)
    assert await leases.renew(conn, [1, 2, 9], ONE) == Renewal(kept=frozenset({1}), delayed=frozenset())
    assert await rows(conn) == [(1, 1, True), (2, 2, True)]  # also what had run out: nobody took it


async def test_a_commit_only_delays_the_renewal_of_what_it_holds(db: Database, conn: Connection) -> None:
    epochs = await leases.acquire(conn, [1, 2, 3], 1, "one", ONE)
    await expire(conn)
    async with db.transaction() as commit:
        await leases.lock_for_commit(commit, {2: epochs[2]}, ONE)
        renewal = await asyncio.wait_for(leases.renew(conn, [1, 2, 3, 4], ONE), timeout=2)
        assert renewal == Renewal(kept=frozenset({1, 3}), delayed=frozenset({2}))
        assert await rows(conn) == [(1, 1, True), (2, 1, False), (3, 1, True)]
    assert (await leases.renew(conn, [1, 2, 3], ONE)).kept == {1, 2, 3}


async def test_a_renewal_that_waited_for_a_take_over_finds_its_lease_lost(db: Database, conn: Connection) -> None:
    await leases.acquire(conn, [1, 2], 1, "one", ONE)
    async with db.session() as renewer:
        async with db.transaction() as take:
            await take.execute(
                b"update ampd_ray.location_lease set incarnation = gen_random_uuid() where location_id = 1"
            )
            renewing = asyncio.create_task(leases.renew(renewer, [1, 2], ONE))
            await _until_blocked(conn, renewer.info.backend_pid)
        assert await renewing == Renewal(kept=frozenset({2}), delayed=frozenset())


async def test_renewals_and_commits_never_lock_each_other_out(db: Database, conn: Connection) -> None:
    epochs = await leases.acquire(conn, range(1, 30), 1, "one", ONE)
    committed = 0

    async def commit() -> None:
        nonlocal committed
        for _ in range(20):
            await _commit(db, epochs)
            committed += 1

    commits = asyncio.gather(commit(), commit())
    while not commits.done():
        renewal = await leases.renew(conn, range(29, 0, -1), ONE)
        assert renewal.kept | renewal.delayed == epochs.keys()
    await commits
    assert committed == 40


async def test_releasing_keeps_the_row_and_the_epoch(conn: Connection) -> None:
    await leases.acquire(conn, [1, 2], 1, "one", ONE)
    await expire(conn)
    await leases.acquire(conn, [2], 1, "one", TWO)
    await leases.release(conn, ONE, 1)
    assert await rows(conn) == [(1, 1, False), (2, 2, True)]
    assert await leases.acquire(conn, [1], 1, "one", TWO, timedelta(seconds=1)) == {1: 2}


async def test_a_job_releases_its_own_and_a_process_all(conn: Connection) -> None:
    await conn.execute(
        b"insert into ampd_ray.location_lease select n, 1, n %% 2, 'one', %(one)s, now() + interval '1 min' "
        b"from generate_series(1, 4) n",
        {"one": ONE},
    )
    await leases.release(conn, ONE, 1)
    assert await rows(conn) == [(1, 1, False), (2, 1, True), (3, 1, False), (4, 1, True)]
    await leases.release(conn, TWO)
    await leases.release(conn, ONE)
    assert [held for _, _, held in await rows(conn)] == [False] * 4


async def test_only_the_newest_epoch_of_this_incarnation_commits(db: Database, conn: Connection) -> None:
    old = await leases.acquire(conn, [1, 2], 1, "one", ONE)
    new = old | await leases.acquire(conn, [2], 1, "one", ONE)
    async with db.transaction() as commit:
        await leases.lock_for_commit(commit, new, ONE)
    with pytest.raises(Fenced) as raised:
        await _commit(db, old)
    assert raised.value.details["locations"] == [2]
    with pytest.raises(Fenced):
        await leases.lock_for_commit(conn, new, TWO)
    with pytest.raises(Fenced):
        await leases.lock_for_commit(conn, {7: 1}, ONE)


async def test_an_expired_lease_still_commits_while_nobody_took_it(db: Database, conn: Connection) -> None:
    epochs = await leases.acquire(conn, [1], 1, "one", ONE, timedelta(0))
    await _commit(db, epochs)


async def test_a_take_over_waits_for_a_commit_and_fences_the_next(db: Database, conn: Connection) -> None:
    epochs = await leases.acquire(conn, [1, 2], 1, "one", ONE, timedelta(0))
    async with db.session() as taker:
        async with db.transaction() as commit:
            await leases.lock_for_commit(commit, epochs, ONE)
            taking = asyncio.create_task(leases.acquire(taker, [1, 2], 1, "one", TWO))
            await _until_blocked(conn, taker.info.backend_pid)
            assert not taking.done()
        assert await taking == {1: 2, 2: 2}
    with pytest.raises(Fenced):
        await _commit(db, epochs)


async def test_a_commit_that_waited_for_a_take_over_is_fenced(db: Database, conn: Connection) -> None:
    epochs = await leases.acquire(conn, [1, 2], 1, "one", ONE, timedelta(0))
    async with db.session() as committer:
        async with db.transaction() as take:
            await leases.acquire(take, [1], 1, "one", TWO)
            committing = asyncio.create_task(leases.lock_for_commit(committer, epochs, ONE))
            await _until_blocked(conn, committer.info.backend_pid)
        with pytest.raises(Fenced):
            await committing


async def _commit(db: Database, epochs: dict[int, int]) -> None:
    async with db.transaction() as commit:
        await leases.lock_for_commit(commit, epochs, ONE)


async def _until_blocked(watch: Connection, pid: int) -> None:
    query = f"select cardinality(pg_blocking_pids({pid})) > 0".encode()
    while not (await (await watch.execute(query)).fetchone())[0]:  # type: ignore[index]
        pass
