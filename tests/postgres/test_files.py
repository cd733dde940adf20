from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.segments import missing
from ampd_ray.errors import CommitUnknown, DatabaseUnavailable, Fenced, InvalidFileRow, ObjectExists, Overlap
from ampd_ray.metadb import files, leases, segment_index
from ampd_ray.metadb.connection import Connection, Database
from ampd_ray.metadb.files import CommitRequest, Intent, NewFile, announce, commit
from ampd_ray.metadb.revisions import open_revision
from ampd_ray.metadb.schema import migrate
from tests.servers import owner_of

NODE = "one"
HASH = "a" * 64
TABLES = ("blocks", "logs")


def block_hash(number: int, branch: int) -> bytes:
    return hashlib.sha256(f"{number}/{branch}".encode()).digest() if number >= 0 else bytes(32)


def blocks(start: int, end: int, branch: int = 0, parent_branch: int | None = None) -> BlockRange:
    parent = branch if parent_branch is None else parent_branch
    return BlockRange("anvil", start, end, block_hash(end, branch), block_hash(start - 1, parent), 1_700_000_000 + end)


def metadata(table: str, name: str, block_range: BlockRange, created_ns: int) -> dict[str, Any]:
    return {
        "table": table,
        "filename": name,
        "created_at": {"secs": created_ns // 10**9, "nanos": created_ns % 10**9},
        "ranges": [
            {
                "numbers": {"start": block_range.start, "end": block_range.end},
                "network": block_range.network,
                "hash": "0x" + block_range.hash.hex(),
                "prev_hash": "0x" + block_range.prev_hash.hex(),
                "timestamp": block_range.timestamp,
            }
        ],
    }


@dataclass(frozen=True)
class Job:
    """A running job that holds the leases of its tables."""

    db: Database
    id: int
    incarnation: UUID
    locations: dict[str, int]
    epochs: dict[int, int]

    def file(self, table: str, block_range: BlockRange, created_ns: int, known: Iterable[int] = ()) -> NewFile:
        location = self.locations[table]
        text = f"{location}/{block_range}/{self.epochs[location]}"
        name = f"{block_range.start:09}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet"
        return NewFile(
            table=table,
            location_id=location,
            epoch=self.epochs[location],
            known=frozenset(known),
            file_name=name,
            directory_url=f"file:///data/{table}/",
            range=block_range,
            created_ns=created_ns,
            metadata_json=json.dumps(metadata(table, name, block_range, created_ns)),
            footer=b"footer of " + name.encode(),
            size=1000 + block_range.start,
            e_tag="tag",
            version=None,
            sha256=bytes(range(32)),
            row_count=10 * len(block_range.span),
            verified="hash",
        )

    def request(self, block_range: BlockRange, created_ns: int = 1, known: Iterable[int] = ()) -> CommitRequest:
        new = tuple(self.file(table, block_range, created_ns, known) for table in TABLES)
        return CommitRequest(self.id, NODE, self.incarnation, new)

    async def commit(self, block_range: BlockRange, created_ns: int = 1, known: Iterable[int] = ()) -> dict[str, int]:
        done = await commit(self.db, self.request(block_range, created_ns, known))
        return {file.table: file.segment.file_id for file in done}

    async def canonical(self, table: str = "blocks") -> dict[Span, bool]:
        rows = await fetch(
            self.db,
            "select blocks, canonical from ampd_ray.segment where location_id = %s order by file_id",
            self.locations[table],
        )
        return {Span(row.blocks.lower, row.blocks.upper - 1): row.canonical for row in rows}


async def fetch(db: Database, statement: str, *values: Any) -> list[Any]:
    async with db.connection() as conn:
        return await (await conn.execute(statement.encode(), values)).fetchall()


async def execute(db: Database, statement: str, *values: Any) -> None:
    async with owner_of(db) as conn:
        await conn.execute(statement.encode(), values)


async def counts(db: Database) -> tuple[int, ...]:
    (row,) = await fetch(
        db,
        "select (select count(*) from file_metadata) as a, (select count(*) from footer_cache) as b, "
        "(select count(*) from ampd_ray.segment) as c, (select count(*) from ampd_ray.file_intent) as d",
    )
    return tuple(row)


@pytest.fixture
async def job(db: Database) -> Job:
    return await run_job(db)


async def run_job(db: Database) -> Job:
    await execute(db, "insert into workers (node_id, heartbeat_at) values (%s, now())", NODE)
    (row,) = await fetch(db, "insert into jobs (node_id, idempotency_key) values (%s, 'key') returning id", NODE)
    await execute(db, "insert into jobs_status (job_id, node_id, status) values (%s, %s, 'RUNNING')", row.id, NODE)
    revisions = {table: await open_revision(db, "_", "eth", HASH, table) for table in TABLES}
    locations = {table: revision.location_id for table, revision in revisions.items()}
    incarnation = uuid4()
    async with db.connection() as conn:
        epochs = await leases.acquire(conn, locations.values(), row.id, NODE, incarnation)
    return Job(db, row.id, incarnation, locations, dict(epochs))


# -- announce -----------------------------------------------------------------------------------------------------


async def test_a_file_is_newer_than_all_that_its_revisions_hold(job: Job) -> None:
    future = 4_000_000_000 * 10**9 + 999
    await job.commit(blocks(0, 9), created_ns=future)
    intents = [Intent(location, "next", 1) for location in job.locations.values()]
    created = await announce(job.db, intents)
    assert future + 1000 <= created < future + 3000


async def test_a_file_is_newer_than_what_the_caller_knows(job: Job) -> None:
    future = 4_000_000_000 * 10**9
    created = await announce(job.db, [Intent(job.locations["blocks"], "next", 1)], newest_ns=future)
    assert created > future


async def test_a_file_is_stamped_by_the_clock_of_the_database(job: Job) -> None:
    (before,) = await fetch(job.db, "select (extract(epoch from clock_timestamp()) * 1000000000)::bigint as ns")
    created = await announce(job.db, [Intent(job.locations["blocks"], "next", 1)])
    (after,) = await fetch(job.db, "select (extract(epoch from clock_timestamp()) * 1000000000)::bigint as ns")
    assert before.ns < created < after.ns


async def test_announced_again_a_file_keeps_its_time(job: Job) -> None:
    intents = [Intent(location, "next", 1) for location in job.locations.values()]
    assert await announce(job.db, intents) == await announce(job.db, intents)
    assert (await counts(job.db))[3] == 2


# -- commit -------------------------------------------------------------------------------------------------------


async def test_all_tables_become_visible_together(job: Job, pg_url: str) -> None:
    request = job.request(blocks(0, 9), created_ns=1_767_225_600_123_456_789)
    await announce(job.db, [Intent(file.location_id, file.file_name, file.epoch) for file in request.files])
    async with await psycopg.AsyncConnection.connect(pg_url, autocommit=True) as listener:
        await listener.execute('listen "change-tracking"')
        done = await commit(job.db, request)
        heard = [note.payload async for note in listener.notifies(timeout=30, stop_after=2)]
    assert heard == [str(location) for location in sorted(job.locations.values())]
    assert await counts(job.db) == (2, 2, 2, 0)
    for file, committed in zip(request.files, done, strict=True):
        (row,) = await fetch(
            job.db,
            "select f.*, c.footer from file_metadata f join footer_cache c on c.file_id = f.id where f.id = %s",
            committed.segment.file_id,
        )
        assert row.metadata == json.loads(file.metadata_json)
        assert (row.location_id, row.file_name, row.url) == (file.location_id, file.file_name, file.directory_url)
        assert (row.object_size, row.object_e_tag, row.object_version) == (1000, "tag", None)
        assert row.footer == file.footer
        async with job.db.connection() as conn:
            assert await files.segments(conn, file.location_id) == [committed.segment]


async def test_a_commit_asks_the_database_few_times(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each statement is a round trip between a new block and its readers; four are for each table."""
    statements = 0
    execute_one = Connection.execute

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal statements
        statements += 1
        return await execute_one(self, *args, **kwargs)

    monkeypatch.setattr(Connection, "execute", counted)
    await job.commit(blocks(0, 9))
    assert statements <= 7 + 4 * len(TABLES)


async def test_the_same_request_again_changes_nothing(job: Job) -> None:
    request = job.request(blocks(0, 9))
    first = await commit(job.db, request)
    assert await commit(job.db, request) == first
    assert await files.find_committed(job.db, request) == first
    assert await counts(job.db) == (2, 2, 2, 0)


@pytest.mark.parametrize("happened", [True, False])
async def test_a_lost_answer_to_commit_is_looked_up(job: Job, monkeypatch: pytest.MonkeyPatch, happened: bool) -> None:
    really, calls = files._commit, []

    async def lose_first(db: Database, request: CommitRequest) -> list[files.CommittedFile]:
        calls.append(request)
        if len(calls) == 1:
            if happened:
                await really(db, request)
            raise CommitUnknown("lost")
        return await really(db, request)

    monkeypatch.setattr(files, "_commit", lose_first)
    done = await commit(job.db, job.request(blocks(0, 9)))
    assert len(done) == 2
    assert len(calls) == (1 if happened else 2)
    assert await counts(job.db) == (2, 2, 2, 0)


async def test_an_outcome_that_cannot_be_looked_up_stays_unknown(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(db: Database, request: CommitRequest) -> list[files.CommittedFile]:
        raise CommitUnknown("lost")

    async def down(db: Database, request: CommitRequest) -> None:
        raise DatabaseUnavailable("down")

    monkeypatch.setattr(files, "_commit", lose)
    with pytest.raises(CommitUnknown):
        await commit(job.db, job.request(blocks(0, 9)))
    monkeypatch.setattr(files, "find_committed", down)
    with pytest.raises(CommitUnknown):
        await commit(job.db, job.request(blocks(0, 9)))


@pytest.mark.parametrize("change", [{"size": 1}, {"e_tag": "other"}])
async def test_another_content_under_the_same_name_is_fatal(job: Job, change: dict[str, Any]) -> None:
    request = job.request(blocks(0, 9))
    await commit(job.db, request)
    other = replace(request, files=(request.files[0], replace(request.files[1], **change)))
    with pytest.raises(ObjectExists, match="logs"):
        await commit(job.db, other)


async def test_blocks_that_others_committed_are_not_committed_again(job: Job) -> None:
    await job.commit(blocks(0, 9))
    before = await counts(job.db)
    for block_range in (blocks(9, 12), blocks(0, 0), blocks(3, 4), blocks(0, 20, branch=1)):
        with pytest.raises(Overlap, match="committed meanwhile"):
            await job.commit(block_range)
    assert await counts(job.db) == before


async def test_an_overlap_in_one_table_stops_all(job: Job) -> None:
    only_logs = job.file("logs", blocks(5, 9), 1)
    await commit(job.db, CommitRequest(job.id, NODE, job.incarnation, (only_logs,)))
    with pytest.raises(Overlap, match="logs"):
        await job.commit(blocks(0, 9))
    assert await counts(job.db) == (1, 1, 1, 0)


async def test_of_two_that_race_for_the_same_blocks_one_wins(job: Job) -> None:
    ranges = [blocks(0, 9, branch) for branch in range(6)]
    outcomes = await asyncio.gather(*(job.commit(wanted) for wanted in ranges), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Overlap"] * 5 + ["dict"]
    assert await counts(job.db) == (2, 2, 2, 0)


async def test_without_the_exclusion_constraint_an_overlap_is_found_as_well(empty_pg_url: str) -> None:
    await migrate(empty_pg_url, exclusion=False)
    db = Database(empty_pg_url)
    await db.open()
    try:
        job = await run_job(db)
        old = await job.commit(blocks(0, 9), 1)
        with pytest.raises(Overlap):
            await job.commit(blocks(9, 9, branch=1), 2)
        await job.commit(blocks(0, 9, branch=1), 2, known=old.values())
    finally:
        await db.close()


# -- which segments are canonical ---------------------------------------------------------------------------------


async def test_a_known_file_is_displaced_by_a_newer_one_of_the_same_blocks(job: Job) -> None:
    await job.commit(blocks(0, 9), 1)
    old = await job.commit(blocks(10, 10), 2)
    await job.commit(blocks(10, 10, branch=1, parent_branch=0), 3, known=old.values())
    rows = await fetch(
        job.db,
        "select canonical from ampd_ray.segment where location_id = %s order by file_id",
        job.locations["blocks"],
    )
    assert [row.canonical for row in rows] == [True, False, True]


async def test_a_fork_is_stored_beside_the_chain(job: Job) -> None:
    await job.commit(blocks(0, 9), 1)
    await job.commit(blocks(10, 10), 2)
    await job.commit(blocks(11, 11, branch=1), 3)
    assert await job.canonical() == {Span(0, 9): True, Span(10, 10): True, Span(11, 11): True}
    async with job.db.connection() as conn:
        found = await files.segments(conn, job.locations["blocks"])
    assert missing(found, Span(0, 11)) == [Span(10, 10)]


async def test_a_file_that_fills_a_gap_decides_between_the_branches_above(job: Job) -> None:
    await job.commit(blocks(0, 2), 1)
    old = await job.commit(blocks(6, 8), 2)
    new = await job.commit(blocks(6, 9, branch=1), 3, known=old.values())
    assert await job.canonical() == {Span(0, 2): True, Span(6, 8): False, Span(6, 9): True}
    await job.commit(blocks(3, 5), 4, known=[*old.values(), *new.values()])
    assert await job.canonical() == {Span(0, 2): True, Span(6, 8): True, Span(6, 9): False, Span(3, 5): True}


async def test_a_commit_looks_at_few_segments_however_many_there_are(job: Job) -> None:
    """Also while Postgres has no statistics of them: what is lost by a restore, and not there yet after an adoption."""
    location = job.locations["blocks"]
    await execute(
        job.db,
        """insert into ampd_ray.segment (file_id, location_id, network, blocks, start_parent, end_hash, canonical)
        select 1000 + n, %s, 'anvil', int8range(n, n + 1), '', '', true from generate_series(0, 4999) n""",
        location,
    )
    read = "select idx_tup_fetch + seq_tup_read as rows from pg_stat_xact_user_tables where relname = 'segment'"
    async with job.db.transaction() as conn:
        assert await segment_index.overlapping(conn, location, blocks(5_000, 5_009)) == {}
        assert not await segment_index.decides_between_branches(conn, location, blocks(5_000, 5_009))
        (row,) = await (await conn.execute(read.encode())).fetchall()
    assert row.rows < 10


async def test_files_of_amp_are_adopted_and_deleted_ones_forgotten(job: Job) -> None:
    location = job.locations["blocks"]
    ours = await job.commit(blocks(20, 29), 9)
    for name, block_range, created in (("a", blocks(0, 9), 1), ("b", blocks(5, 9, 1), 2), ("c", blocks(10, 14), 3)):
        await execute(
            job.db,
            "insert into file_metadata (location_id, file_name, metadata, url) values (%s, %s, %s::jsonb, 'u')",
            location,
            name,
            json.dumps(metadata("blocks", name, block_range, created)),
        )
    async with job.db.transaction() as conn:
        await files.sync_segments(conn, job.locations.values())
    expected = {Span(0, 9): True, Span(5, 9): False, Span(10, 14): True}
    assert await job.canonical() == {Span(20, 29): True, **expected}
    await execute(job.db, "delete from file_metadata where file_name = 'a' or id = %s", ours["blocks"])
    async with job.db.transaction() as conn:
        await files.sync_segments(conn, job.locations.values())
    assert await job.canonical() == {Span(5, 9): True, Span(10, 14): True}


async def test_many_files_of_amp_are_adopted_in_few_statements(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Canonical and orphaned ones, over several pages; what the index says of our own file stays."""
    monkeypatch.setattr(segment_index, "_PAGE", 100)
    location, count = job.locations["blocks"], 450
    await job.commit(blocks(count, count), 9)
    rows = [
        (f"{branch}-{n}", blocks(n, n, branch), 1 + branch) for n in range(count) for branch in (0, 1) if n or branch
    ]
    async with job.db.transaction() as conn:
        await conn.execute(
            "insert into file_metadata (location_id, file_name, metadata, url) "
            "select %s, name, row::jsonb, 'u' from unnest(%s::text[], %s::text[]) as found (name, row)",
            [location, [name for name, *_ in rows], [json.dumps(metadata("blocks", *row)) for row in rows]],
        )
        statements = 0
        execute_one = type(conn).execute

        async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal statements
            statements += 1
            return await execute_one(self, *args, **kwargs)

        monkeypatch.setattr(type(conn), "execute", counted)
        await files.sync_segments(conn, [location])
    assert statements < 40
    found = await fetch(
        job.db,
        "select s.canonical, s.epoch, s.row_count, s.end_hash, s.start_parent, lower(s.blocks) as first, f.file_name "
        "from ampd_ray.segment s join file_metadata f on f.id = s.file_id where s.location_id = %s",
        location,
    )
    assert len(found) == len(rows) + 1
    for row in found:
        ours = row.first == count
        branch = 0 if ours else int(row.file_name[0])
        assert row.canonical == (ours or branch == 1)
        assert (row.end_hash, row.start_parent) == (block_hash(row.first, branch), block_hash(row.first - 1, branch))
        assert (row.epoch > 0, row.row_count) == ((True, 10) if ours else (False, None))


async def test_a_row_that_is_not_of_a_raw_file_is_named(job: Job) -> None:
    reversed_range = metadata("blocks", "bad", BlockRange("anvil", 9, 0, bytes(32), bytes(32)), 1)
    for number, bad in enumerate(
        ({}, reversed_range, {"created_at": {"secs": 1, "nanos": 0}, "ranges": []}, {"ranges": 7})
    ):
        await execute(
            job.db,
            "insert into file_metadata (location_id, file_name, metadata, url) values (%s, %s, %s::jsonb, 'u')",
            job.locations["blocks"],
            f"bad{number}",
            json.dumps(bad),
        )
        async with job.db.connection() as conn:
            with pytest.raises(InvalidFileRow, match="bad"):
                await files.segments(conn, job.locations["blocks"])


# -- files that are replaced ----------------------------------------------------------------------------------------


async def queued(job: Job) -> dict[int, Any]:
    rows = await fetch(
        job.db, "select *, expiration - (now() at time zone 'utc') as left from gc_manifest order by file_id"
    )
    return {row.file_id: row for row in rows}


async def replace_tip(job: Job, after: timedelta | None) -> tuple[dict[str, int], dict[str, int]]:
    """Blocks 10 to 19 of branch 0, then of branch 1; the files of each by table."""
    await job.commit(blocks(0, 9), 1)
    old = await job.commit(blocks(10, 19), 2)
    request = job.request(blocks(10, 19, branch=1, parent_branch=0), 3, known=old.values())
    done = await commit(job.db, replace(request, collect_after=after))
    return old, {file.table: file.segment.file_id for file in done}


async def test_what_is_replaced_waits_for_its_collection_from_the_same_commit_on(job: Job) -> None:
    old, _ = await replace_tip(job, timedelta(minutes=30))
    found = await queued(job)
    assert found.keys() == set(old.values())
    for table, file_id in old.items():
        row = found[file_id]
        (file,) = await fetch(job.db, "select location_id, file_name from file_metadata where id = %s", file_id)
        assert (row.location_id, row.file_path) == (job.locations[table], file.file_name)
        assert timedelta(minutes=29) < row.left <= timedelta(minutes=30)


async def test_no_patience_is_a_second(job: Job) -> None:
    await replace_tip(job, timedelta(0))
    assert all(timedelta(0) < row.left <= timedelta(seconds=1) for row in (await queued(job)).values())


async def test_without_a_collector_nothing_is_queued(job: Job) -> None:
    await replace_tip(job, None)
    assert await queued(job) == {}


async def test_a_branch_that_comes_back_is_not_collected(job: Job) -> None:
    """Blocks 3 to 5 decide between two branches above them: the one that lost comes back to the chain."""
    late = timedelta(minutes=30)
    await job.commit(blocks(0, 2), 1)
    old = await job.commit(blocks(6, 8), 2)
    request = job.request(blocks(6, 9, branch=1), 3, known=old.values())
    new = await commit(job.db, replace(request, collect_after=late))
    assert (await queued(job)).keys() == set(old.values())
    known = [*old.values(), *(file.segment.file_id for file in new)]
    await commit(job.db, replace(job.request(blocks(3, 5), 4, known=known), collect_after=late))
    assert (await queued(job)).keys() == {file.segment.file_id for file in new}


async def test_a_name_that_waits_for_another_file_keeps_nobody_from_committing(job: Job) -> None:
    """Names are unique over all revisions by our rule, not by that of other writers."""
    await job.commit(blocks(0, 9), 1)
    old = await job.commit(blocks(10, 19), 2)
    await execute(job.db, "update file_metadata set file_name = 'same' where id = any(%s)", list(old.values()))
    request = job.request(blocks(10, 19, branch=1, parent_branch=0), 3, known=old.values())
    await commit(job.db, replace(request, collect_after=timedelta(minutes=30)))
    assert len(await queued(job)) == 1


async def test_a_name_whose_object_is_about_to_be_deleted_is_not_announced(job: Job) -> None:
    location = job.locations["blocks"]
    await execute(
        job.db, "insert into ampd_ray.tombstone (url, location_id) values ('file:///data/blocks/next', %s)", location
    )
    with pytest.raises(Overlap, match="about to be deleted"):
        await announce(job.db, [Intent(location, "next", 1)])
    assert (await counts(job.db))[3] == 0
    await announce(job.db, [Intent(location, "another", 1), Intent(job.locations["logs"], "next", 1)])


# -- fences -------------------------------------------------------------------------------------------------------


async def test_a_superseded_epoch_commits_nothing(job: Job) -> None:
    async with job.db.connection() as conn:
        await leases.acquire(conn, [job.locations["logs"]], job.id, NODE, job.incarnation)
    with pytest.raises(Fenced):
        await job.commit(blocks(0, 9))
    assert await counts(job.db) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("status", "node", "may"),
    [
        ("RUNNING", NODE, True),
        ("STOP_REQUESTED", NODE, True),
        ("stopping", NODE, True),
        ("SCHEDULED", NODE, False),
        ("COMPLETED", NODE, False),
        ("STOPPED", NODE, False),
        ("ERROR", NODE, False),
        ("FATAL", NODE, False),
        ("RUNNING", "another", False),
    ],
)
async def test_only_a_job_that_runs_here_may_commit(job: Job, status: str, node: str, may: bool) -> None:
    await execute(job.db, "update jobs_status set status = %s, node_id = %s", status, node)
    if may:
        assert await job.commit(blocks(0, 9))
    else:
        with pytest.raises(Fenced, match=f"{status} on node {node}"):
            await job.commit(blocks(0, 9))
        assert await counts(job.db) == (0, 0, 0, 0)


async def test_a_job_that_is_gone_may_not_commit(job: Job) -> None:
    await execute(job.db, "delete from jobs_status")
    with pytest.raises(Fenced, match="gone"):
        await job.commit(blocks(0, 9))


# -- summary ------------------------------------------------------------------------------------------------------


async def test_a_summary_counts_what_is_canonical_within_the_span(job: Job) -> None:
    await job.commit(blocks(0, 9), 1)
    old = await job.commit(blocks(10, 19), 2)
    await job.commit(blocks(10, 19, branch=1, parent_branch=0), 3, known=old.values())
    await job.commit(blocks(30, 39), 4)
    async with job.db.connection() as conn:
        found = await files.summary(conn, job.locations.values(), Span(5, 35))
        nothing = await files.summary(conn, job.locations.values(), Span(100, 200))
    assert set(found) == set(TABLES)
    summary = found["logs"]
    assert (summary.location_id, summary.rows, summary.files, summary.bytes) == (job.locations["logs"], 300, 3, 3040)
    assert summary.covered == (Span(5, 19), Span(30, 35))
    assert nothing["blocks"] == files.TableSummary("blocks", job.locations["blocks"], 0, 0, 0, ())
