"""What is deleted, what is not, and what a crash in between leaves to finish by (``spec/commit.md`` 7)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from ampd_ray.errors import AmpdError, DatabaseUnavailable, StoreError
from ampd_ray.materialize.sweep import Broom, Sweeper
from ampd_ray.materialize.types import Location
from ampd_ray.metadb import leases, sweep
from ampd_ray.metadb.sweep import LOOK_AGAIN_AFTER
from ampd_ray.node.housekeeping import Housekeeping
from ampd_ray.store.files import LocalStore, open_store
from tests.fakes.bench import NODE, Bench, until
from tests.fakes.bucket import Outside
from tests.fakes.object_stores import S3Server

GROUP = "group-1"
NAME = "000000100-00000000000000{:02}.parquet"


class StubbornStore(LocalStore):
    """A store in which some objects cannot be deleted."""

    stubborn: frozenset[str] = frozenset()

    def delete(self, path: str) -> None:
        if path.rpartition("/")[2] in self.stubborn:
            raise StoreError(f"cannot delete {path}: no")
        super().delete(path)


@pytest.fixture
def bench(finished: Bench) -> Bench:
    return finished


@pytest.fixture
async def held(bench: Bench) -> list[Location]:
    """Files 0-24, 25-49 and so on up to 99 in three tables, held under epoch 2."""
    found = await bench.revisions()
    ids = [revision.location_id for revision in found.values()]
    (job,) = await bench.query("select id from jobs")
    async with bench.db.connection() as conn:
        await conn.execute("update ampd_ray.location_lease set expires_at = now()")
        epochs = await leases.acquire(conn, ids, job.id, NODE, bench.incarnation)
        await conn.execute("update workers set info = info || %s", (f'{{"failover_group": "{GROUP}"}}',))
    assert set(epochs.values()) == {2}
    return [Location(table, r.location_id, r.path, epochs[r.location_id]) for table, r in found.items()]


def broom(bench: Bench, *, collect: bool = True) -> Broom:
    return Broom(bench.db, bench.data, collect)


async def announce(bench: Bench, location: Location, number: int, epoch: int, *, upload: bool = True) -> str:
    """A file that a writer of ``epoch`` announced, and perhaps published."""
    name = NAME.format(number)
    await bench.execute(
        "insert into ampd_ray.file_intent (location_id, file_name, epoch) values (%s, %s, %s)",
        location.location_id, name, epoch,
    )  # fmt: skip
    if upload:
        bench.data.write(f"{location.path}/{name}", b"half a file")
    return f"{location.path}/{name}"


async def queue(bench: Bench, location: Location, start: int, *, canonical: bool = False) -> str:
    """Have the file that starts at ``start`` wait for its collection, off the chain; its time comes at once."""
    (row,) = await bench.query(
        "update ampd_ray.segment s set canonical = %s from file_metadata f"
        " where f.id = s.file_id and s.location_id = %s and lower(s.blocks) = %s returning f.id, f.file_name",
        canonical, location.location_id, start,
    )  # fmt: skip
    await bench.execute(
        "insert into gc_manifest (location_id, file_id, file_path, expiration)"
        " values (%s, %s, %s, now() at time zone 'utc' + interval '1 millisecond')",
        location.location_id, row.id, row.file_name,
    )  # fmt: skip
    expired = "select from gc_manifest where file_id = %s and expiration < now() at time zone 'utc'"
    await until(lambda: bench.query(expired, row.id))
    return f"{location.path}/{row.file_name}"


async def intents(bench: Bench) -> dict[str, bool]:
    rows = await bench.query("select file_name, swept_at is not null as swept from ampd_ray.file_intent")
    return {row.file_name: row.swept for row in rows}


async def assert_objects_are_rows_and_tombstones(bench: Bench) -> None:
    """I3."""
    rows = await bench.query("select rtrim(url, '/') || '/' || file_name as url from file_metadata")
    buried = await bench.query("select url from ampd_ray.tombstone")
    assert {path.as_uri() for path in await bench.objects()} == {row.url for row in [*rows, *buried]}


# -- intents ----------------------------------------------------------------------------------------------------------


async def test_what_a_dead_writer_left_in_an_object_store_is_given_up(
    bench: Bench, held: list[Location], moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that was begun is in no listing of objects, and costs as much as one."""
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    prefix, outside = f"{uuid4().hex}/", Outside(moto)
    bench.data = open_store(moto.url(prefix))
    there, ours = [await announce(bench, held[0], number, epoch) for number, epoch in ((1, 1), (2, 2))]
    begun = await announce(bench, held[0], 3, 1, upload=False)
    for path in (begun, begun, ours):
        outside.begin_upload(prefix + path)
    assert (await broom(bench).sweep(held[0])).intents == 2
    assert not bench.data.exists(there)
    assert list(outside.objects(prefix)) == [prefix + ours]
    assert [key for key in outside.uploads() if key.startswith(prefix)] == [prefix + ours]


async def test_what_a_lower_epoch_announced_is_deleted(bench: Bench, held: list[Location]) -> None:
    there = await announce(bench, held[0], 1, 1)
    await announce(bench, held[0], 2, 1, upload=False)
    ours = await announce(bench, held[0], 3, 2)
    elsewhere = await announce(bench, held[1], 4, 1)
    staged = bench.data.stage(held[0].location_id, 1, "unfinished")
    staged.write_bytes(b"half")
    open_now = bench.data.stage(held[0].location_id, 2, "open")
    open_now.write_bytes(b"half")

    done = await broom(bench).sweep(held[0])

    assert done.intents == 2
    assert not bench.data.exists(there)
    assert bench.data.exists(ours)
    assert bench.data.exists(elsewhere)
    assert (staged.exists(), open_now.exists()) == (False, True)
    assert await intents(bench) == {
        NAME.format(1): True, NAME.format(2): True, NAME.format(3): False, NAME.format(4): False
    }  # fmt: skip


async def test_a_registered_file_is_never_swept(bench: Bench, held: list[Location]) -> None:
    paths = await bench.paths(held[0].table)
    name = next(iter(paths.values())).name
    await bench.execute(
        "insert into ampd_ray.file_intent (location_id, file_name, epoch) values (%s, %s, 1)", held[0].location_id, name
    )
    assert (await broom(bench).sweep(held[0], again_after=timedelta(0))).intents == 0
    assert await intents(bench) == {}
    assert all(path.exists() for path in paths.values())


async def test_who_is_fenced_sweeps_nothing(bench: Bench, held: list[Location]) -> None:
    path = await announce(bench, held[0], 1, 1)
    await queue(bench, held[0], 0)
    for epoch in (1, 3):
        assert not await broom(bench).sweep(replace(held[0], epoch=epoch))
    assert bench.data.exists(path)
    assert await intents(bench) == {NAME.format(1): False}


async def test_a_late_upload_is_found_by_looking_again(bench: Bench, held: list[Location]) -> None:
    path = await announce(bench, held[0], 1, 1)
    assert (await broom(bench).sweep(held[0])).intents == 1
    bench.data.write(path, b"a zombie was here")
    assert (await broom(bench).sweep(held[0])).intents == 0
    assert (await broom(bench).sweep(held[0], again_after=LOOK_AGAIN_AFTER)).intents == 0
    await bench.execute("update ampd_ray.file_intent set swept_at = swept_at - interval '61 minutes'")
    assert (await broom(bench).sweep(held[0])).intents == 0
    assert (await broom(bench).sweep(held[0], again_after=LOOK_AGAIN_AFTER)).intents == 1
    assert not bench.data.exists(path)
    bench.data.write(path, b"and once more")
    await bench.execute("update ampd_ray.file_intent set swept_at = swept_at - interval '23 hours'")
    assert (await broom(bench).sweep(held[0], again_after=LOOK_AGAIN_AFTER)).intents == 1
    assert not bench.data.exists(path)
    assert await intents(bench) == {}


async def test_more_than_a_page_is_swept(
    bench: Bench, held: list[Location], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(sweep, "PAGE", 3)
    for number in range(10):
        await announce(bench, held[0], number, 1)
    await bench.execute(
        "insert into ampd_ray.tombstone (url, location_id) select %s || n, %s from generate_series(1, 10) n",
        bench.data.url_of(held[0].path) + "/gone-", held[0].location_id,
    )  # fmt: skip
    for start in (0, 25, 50, 75):
        await queue(bench, held[0], start)
    done = await broom(bench).sweep(held[0])
    assert (done.intents, len(done.collected), done.tombstones) == (10, 4, 14)
    assert all((await intents(bench)).values())


async def test_one_object_that_stays_keeps_no_other(bench: Bench, held: list[Location]) -> None:
    store = StubbornStore(bench.root / "data")
    paths = [await announce(bench, held[0], number, 1) for number in range(3)]
    store.stubborn = frozenset({NAME.format(1)})
    with pytest.raises(StoreError, match="cannot delete"):
        await Broom(bench.db, store, collect=False).sweep(held[0])
    assert [store.exists(path) for path in paths] == [False, True, False]
    assert await intents(bench) == {NAME.format(0): True, NAME.format(1): False, NAME.format(2): True}
    store.stubborn = frozenset()
    assert (await Broom(bench.db, store, collect=False).sweep(held[0])).intents == 1


# -- collection -------------------------------------------------------------------------------------------------------


async def test_a_replaced_file_goes_with_all_its_rows(bench: Bench, held: list[Location]) -> None:
    path = await queue(bench, held[0], 25)
    heard: list[int] = []
    done = await replace(broom(bench), on_collected=heard.extend).sweep(held[0])
    assert done.collected == heard
    assert len(heard) == 1
    assert done.tombstones == 1
    assert not bench.data.exists(path)
    for table in ("footer_cache", "gc_manifest", "ampd_ray.segment"):
        assert await bench.query(f"select from {table} where file_id = %s", heard[0]) == [], table
    assert await bench.query("select from file_metadata where id = %s", heard[0]) == []
    assert await bench.query("select from ampd_ray.tombstone") == []
    assert len(await bench.paths(held[0].table)) == 3


async def test_a_file_on_the_chain_is_not_collected_whatever_the_queue_says(
    bench: Bench, held: list[Location]
) -> None:  # fmt: skip
    path = await queue(bench, held[0], 25, canonical=True)
    assert not await broom(bench).sweep(held[0])
    assert bench.data.exists(path)


async def test_nothing_is_collected_before_its_time_or_when_it_is_switched_off(
    bench: Bench, held: list[Location]
) -> None:  # fmt: skip
    path = await queue(bench, held[0], 25)
    assert not await broom(bench, collect=False).sweep(held[0])
    await bench.execute("update gc_manifest set expiration = now() at time zone 'utc' + interval '1 hour'")
    assert not await broom(bench).sweep(held[0])
    assert bench.data.exists(path)


async def test_while_somebody_commits_nothing_is_collected(bench: Bench, held: list[Location]) -> None:
    path = await queue(bench, held[0], 25)
    async with bench.db.transaction() as conn:
        await leases.lock_for_commit(conn, {held[0].location_id: 2}, bench.incarnation)
        assert not await broom(bench).sweep(held[0])
    assert bench.data.exists(path)
    assert await broom(bench).sweep(held[0])


async def test_a_crash_between_row_and_object_leaves_a_tombstone(bench: Bench, held: list[Location]) -> None:
    store = StubbornStore(bench.root / "data")
    path = await queue(bench, held[0], 25)
    store.stubborn = frozenset({Path(path).name})
    with pytest.raises(StoreError):
        await Broom(bench.db, store, collect=True).sweep(held[0])
    assert store.exists(path)
    assert [row.url for row in await bench.query("select url from ampd_ray.tombstone")] == [store.url_of(path)]
    await assert_objects_are_rows_and_tombstones(bench)
    assert (await broom(bench).sweep(held[0])).tombstones == 1
    assert not store.exists(path)
    await assert_objects_are_rows_and_tombstones(bench)


async def test_a_tombstone_without_its_object_is_finished_and_one_elsewhere_is_left(
    bench: Bench, held: list[Location]
) -> None:  # fmt: skip
    add = "insert into ampd_ray.tombstone (url, location_id) values (%s, %s)"
    await bench.execute(add, bench.data.url_of(f"{held[0].path}/gone.parquet"), held[0].location_id)
    await bench.execute(add, "s3://bucket/there.parquet", held[0].location_id)
    assert (await broom(bench).sweep(held[0])).tombstones == 1
    assert [row.url for row in await bench.query("select url from ampd_ray.tombstone")] == ["s3://bucket/there.parquet"]


async def test_a_tombstone_of_a_registered_file_deletes_nothing(bench: Bench, held: list[Location]) -> None:
    (path, *_) = (await bench.paths(held[0].table)).values()
    await bench.execute(
        "insert into ampd_ray.tombstone (url, location_id) values (%s, %s)", path.as_uri(), held[0].location_id
    )
    assert not await broom(bench).sweep(held[0])
    assert path.exists()


async def test_two_sweeps_leave_objects_that_are_rows_or_tombstones(bench: Bench, held: list[Location]) -> None:
    store = StubbornStore(bench.root / "data")
    stays = await queue(bench, held[0], 25)
    store.stubborn = frozenset({Path(stays).name})
    for location in held:
        await announce(bench, location, 1, 1)
        await announce(bench, location, 2, 1, upload=False)
        await queue(bench, location, 50)
    late = await announce(bench, held[0], 3, 1, upload=False)
    sweeping = Broom(bench.db, store, collect=True)
    for location in held:
        try:
            await sweeping.sweep(location)
        except StoreError:
            assert location is held[0]
    bench.data.write(late, b"a zombie was here")
    for location in held:
        try:
            await sweeping.sweep(location, again_after=timedelta(0))
        except StoreError:
            assert location is held[0]
    await assert_objects_are_rows_and_tombstones(bench)
    assert len(await bench.query("select from ampd_ray.tombstone")) == 1


# -- again and again --------------------------------------------------------------------------------------------------


def sweeper(bench: Bench, locations: Sequence[Location], store: LocalStore | None = None) -> Sweeper:
    async def found() -> Sequence[Location]:
        return locations

    return Sweeper(Broom(bench.db, store or bench.data, collect=True), found, 30.0)


async def test_what_fails_at_one_revision_stops_no_other(
    bench: Bench, held: list[Location], caplog: pytest.LogCaptureFixture
) -> None:
    store = StubbornStore(bench.root / "data")
    for location in held:
        await announce(bench, location, 1, 1)
    paths = [f"{location.path}/{NAME.format(1)}" for location in held]

    class OnlyFirst(StubbornStore):
        def delete(self, path: str) -> None:
            if path == paths[0]:
                raise StoreError("no")
            super().delete(path)

    failing = sweeper(bench, held, OnlyFirst(bench.root / "data"))
    with caplog.at_level(logging.WARNING):
        assert [await failing.once() for _ in range(50)] == [False] * 50
    assert len(caplog.records) == 1, "one line a minute"
    assert [store.exists(path) for path in paths] == [True, False, False]
    assert await sweeper(bench, held).once()
    assert not store.exists(paths[0])


@pytest.mark.parametrize("error", [DatabaseUnavailable("down"), RuntimeError("a bug")])
async def test_a_sweep_never_raises(bench: Bench, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    async def down() -> Sequence[Location]:
        raise error

    with caplog.at_level(logging.WARNING):
        assert not await Sweeper(Broom(bench.db, bench.data, collect=True), down, 30.0).once()
    (record,) = caplog.records
    assert record.__dict__["cause"] == (error.code if isinstance(error, AmpdError) else "PANIC")


async def test_what_was_swept_is_looked_at_once_an_hour(bench: Bench, held: list[Location]) -> None:
    path = await announce(bench, held[0], 1, 1)
    now = 0.0

    async def found() -> Sequence[Location]:
        return held

    sweeping = Sweeper(broom(bench), found, 30.0, clock=lambda: now)
    assert await sweeping.once()
    bench.data.write(path, b"late")
    await bench.execute("update ampd_ray.file_intent set swept_at = swept_at - interval '2 hours'")
    now = 3599.0
    assert await sweeping.once()
    assert bench.data.exists(path)
    now = 3600.0
    assert await sweeping.once()
    assert not bench.data.exists(path)


# -- revisions that nobody holds --------------------------------------------------------------------------------------


async def idle(bench: Bench, group: str = GROUP) -> dict[int, int]:
    async with bench.db.connection() as conn:
        found = await sweep.idle(conn, group)
    return {each.location_id: each.epoch for each in found}


async def test_an_idle_revision_is_found_if_it_needs_a_sweep(bench: Bench, held: list[Location]) -> None:
    assert await idle(bench) == {}
    await announce(bench, held[0], 1, 1)
    await queue(bench, held[1], 0)
    await bench.execute("insert into ampd_ray.tombstone (url, location_id) values ('x', %s)", held[2].location_id)
    assert await idle(bench) == {}, "they are held"
    await bench.execute("update ampd_ray.location_lease set expires_at = now() - interval '11 seconds'")
    assert await idle(bench) == {location.location_id: 2 for location in held}
    assert await idle(bench, "another group") == {}
    await bench.execute("""update workers set info = info || '{"implementation": "amp"}'""")
    assert await idle(bench) == {}


@pytest.mark.parametrize(
    ("status", "lapsed", "epoch", "expected"),
    [
        ("COMPLETED", True, 2, 3),
        ("error", True, 2, 3),
        ("COMPLETED", True, 1, 2),
        ("RUNNING", True, 2, 2),
        ("STOPPING", True, 2, 2),
        ("COMPLETED", False, 2, 2),
    ],
)
async def test_what_an_ended_job_left_is_superseded(
    bench: Bench, held: list[Location], status: str, lapsed: bool, epoch: int, expected: int
) -> None:
    await announce(bench, held[0], 1, epoch)
    await bench.execute("update jobs_status set status = %s", status)
    if lapsed:
        await bench.execute("update ampd_ray.location_lease set expires_at = now()")
    async with bench.db.connection() as conn:
        got = await sweep.supersede(conn, held[0].location_id, 2)
    assert got == expected


async def test_housekeeping_leaves_nothing_of_an_ended_job(bench: Bench, held: list[Location]) -> None:
    """Its writer had published a file, and could not commit it; nobody runs the job again."""
    lower = await announce(bench, held[0], 1, 1)
    current = await announce(bench, held[0], 2, 2)
    replaced = await queue(bench, held[1], 50)
    await bench.execute("update ampd_ray.location_lease set expires_at = now() - interval '1 minute'")
    assert await Housekeeping(broom(bench), bench.db, "another group").once()
    assert all(bench.data.exists(path) for path in (lower, current, replaced))
    assert await Housekeeping(broom(bench), bench.db, GROUP).once()
    assert not any(bench.data.exists(path) for path in (lower, current, replaced))
    await assert_objects_are_rows_and_tombstones(bench)
    rows = await bench.query("select location_id, epoch from ampd_ray.location_lease order by location_id")
    assert [row.epoch for row in rows] == [3 if row.location_id == held[0].location_id else 2 for row in rows]


async def test_rows_about_deleted_revisions_are_forgotten(bench: Bench, held: list[Location]) -> None:
    gone, *rest = (location.location_id for location in held)
    await announce(bench, held[0], 1, 1, upload=False)
    await announce(bench, held[1], 1, 1, upload=False)
    await bench.execute("delete from physical_table_revisions where id = %s", gone)
    async with bench.db.connection() as conn:
        await sweep.forget_deleted_revisions(conn)
    for table in ("segment", "file_intent", "location_lease"):
        rows = await bench.query(f"select distinct location_id from ampd_ray.{table}")
        assert {row.location_id for row in rows} <= set(rest), table
        assert rows, table
