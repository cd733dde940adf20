"""When a job is told that its leases are about to end, good again, or gone; by a clock that a test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import cast
from uuid import UUID, uuid4

import pytest

from ampd_ray.errors import AmpdError, DatabaseUnavailable, Handling
from ampd_ray.metadb import leases
from ampd_ray.metadb.connection import Connection
from ampd_ray.metadb.leases import Renewal
from ampd_ray.node.counters import Counters
from ampd_ray.node.leases import LeaseKeeper, boot_time

JOB, OTHER = 7, 8
CONN = cast("Connection", None)  # the table is a fake


class Table:
    """The leases in the database: ``taken`` by others, ``locked`` by a commit; ``takes`` seconds to answer."""

    def __init__(self) -> None:
        self.now = 100.0
        self.takes = 0.0
        self.taken: set[int] = set()
        self.locked: set[int] = set()
        self.away = False
        self.asked: list[frozenset[int]] = []
        self.was_asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()

    async def renew(self, conn: Connection, ids: Collection[int], incarnation: UUID, ttl: timedelta) -> Renewal:
        self.asked.append(frozenset(ids))
        self.was_asked.set()
        await self.answer.wait()
        self.now += self.takes
        if self.away:
            raise DatabaseUnavailable("away")
        ours = frozenset(ids) - self.taken
        return Renewal(ours - self.locked, ours & self.locked)


class Told(list[str]):
    """What a job was told."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = asyncio.Event()

    def lapsed(self) -> None:
        self.append("lapsed")
        self.paused.set()

    def renewed(self) -> None:
        self.append("renewed")

    def lost(self, error: AmpdError) -> None:
        assert error.handling is Handling.FENCED
        self.append(f"lost: {error}")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table()
    monkeypatch.setattr(leases, "renew", made.renew)
    return made


@pytest.fixture
def keeper(table: Table) -> LeaseKeeper:
    return LeaseKeeper(uuid4(), Counters(), timedelta(seconds=4), lambda: table.now)


def hold(keeper: LeaseKeeper, *ids: int, job_id: int = JOB, asked_at: float = 100.0) -> Told:
    told = Told()
    keeper.hold(job_id, ids, asked_at, told)
    return told


def test_a_job_pauses_a_second_before_its_lease_ends(table: Table, keeper: LeaseKeeper) -> None:
    told = hold(keeper, 1, 2)
    for table.now in (100.0, 102.9):
        keeper.check()
    assert told == []
    for table.now in (103.0, 103.1, 110.0):
        keeper.check()
    assert told == ["lapsed"]


async def test_a_lease_counts_from_before_it_was_renewed(table: Table, keeper: LeaseKeeper) -> None:
    told = hold(keeper, 1)
    table.now, table.takes = 101.0, 2.5
    await keeper.renew(CONN)
    for now, wanted in [(103.9, []), (104.0, ["lapsed"])]:
        table.now = now
        keeper.check()
        assert told == wanted


async def test_a_renewal_that_gets_through_lets_the_job_go_on(table: Table, keeper: LeaseKeeper) -> None:
    told = hold(keeper, 1)
    table.now, table.away = 101.0, True
    with pytest.raises(DatabaseUnavailable):
        await keeper.renew(CONN)
    table.now = 130.0
    keeper.check()
    table.away = False
    await keeper.renew(CONN)
    assert told == ["lapsed", "renewed"]


async def test_an_answer_that_comes_too_late_renews_nothing(table: Table, keeper: LeaseKeeper) -> None:
    """The process was stopped while it waited: what it hears of is long past."""
    told = hold(keeper, 1)
    table.takes = 60.0
    await keeper.renew(CONN)
    assert told == ["lapsed"]


async def test_only_the_job_whose_lease_is_gone_ends(table: Table, keeper: LeaseKeeper) -> None:
    one, other = hold(keeper, 1, 2), hold(keeper, 3, job_id=OTHER)
    table.taken = {2}
    table.now = 102.0
    await keeper.renew(CONN)
    assert one == ["lost: the lease of revision 2 was taken by another"]
    table.taken = set()
    table.now = 104.5
    await keeper.renew(CONN)
    assert table.asked == [{1, 2, 3}, {3}]
    assert len(one) == 1
    assert other == []


async def test_a_commit_that_holds_one_of_the_rows_only_delays(table: Table, keeper: LeaseKeeper) -> None:
    told = hold(keeper, 1, 2)
    table.now, table.locked = 102.0, {2}
    await keeper.renew(CONN)
    assert told == []
    table.now = 103.0  # neither lost nor renewed: it counts from the time before
    await keeper.renew(CONN)
    assert told == ["lapsed"]
    table.locked = set()
    await keeper.renew(CONN)
    assert told == ["lapsed", "renewed"]


async def test_what_is_let_go_is_not_renewed_any_more(table: Table, keeper: LeaseKeeper) -> None:
    told = hold(keeper, 1)
    table.answer.clear()
    renewing = asyncio.create_task(keeper.renew(CONN))
    letting_go = asyncio.create_task(keeper.let_go(JOB))
    await table.was_asked.wait()
    assert not letting_go.done()  # a renewal that is under way would undo the release
    table.answer.set()
    await asyncio.gather(renewing, letting_go)
    table.now = 200.0
    await keeper.renew(CONN)
    assert len(table.asked) == 1
    assert told == []


async def test_who_is_cancelled_while_it_waits_to_let_go_has_let_go(table: Table, keeper: LeaseKeeper) -> None:
    """A run that is told to end twice: its leases must run out, not be renewed for a job that nobody runs."""
    hold(keeper, 1)
    table.answer.clear()
    renewing = asyncio.create_task(keeper.renew(CONN))
    await table.was_asked.wait()
    letting_go = asyncio.create_task(keeper.let_go(JOB))
    await asyncio.wait({letting_go}, timeout=0.01)
    assert not letting_go.done()
    letting_go.cancel()
    await asyncio.wait({letting_go})
    assert letting_go.cancelled()
    table.answer.set()
    await renewing
    await keeper.renew(CONN)
    assert len(table.asked) == 1


async def test_leases_taken_while_a_renewal_is_under_way_are_no_loss(table: Table, keeper: LeaseKeeper) -> None:
    old = hold(keeper, 1)
    table.answer.clear()
    renewing = asyncio.create_task(keeper.renew(CONN))
    await table.was_asked.wait()
    new, other = hold(keeper, 1, 2, asked_at=100.5), hold(keeper, 3, job_id=OTHER, asked_at=100.5)
    table.answer.set()
    await renewing
    table.now = 103.4
    keeper.check()
    assert (old, new, other) == ([], [], [])
    table.now = 103.5
    keeper.check()
    assert (old, new, other) == ([], ["lapsed"], ["lapsed"])


async def test_nothing_is_asked_when_nothing_is_held(table: Table, keeper: LeaseKeeper) -> None:
    await keeper.renew(CONN)
    assert table.asked == []


async def test_the_clock_is_looked_at_all_the_time(table: Table, keeper: LeaseKeeper) -> None:
    told = hold(keeper, 1)
    watching = asyncio.create_task(keeper.watch())
    table.now = 103.0
    await asyncio.wait_for(told.paused.wait(), 10)
    watching.cancel()
    await asyncio.wait({watching})


def test_the_clock_runs_on() -> None:
    before = boot_time()
    assert 0 < before <= boot_time()
