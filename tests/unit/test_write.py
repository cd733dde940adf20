"""One partition's writer, with a database that only remembers what it was asked."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampd_ray.chain.ranges import BlockRange, Span
from ampd_ray.chain.segments import Segment
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.devnet.chain import DevChain
from ampd_ray.errors import ActorLost, AmpdError, DatabaseUnavailable, Fenced, Overlap, StoreError, StoreUnavailable
from ampd_ray.materialize import patience, write
from ampd_ray.materialize.types import CommittedFile, Location, Partition, UnchangedFile, WriterOptions
from ampd_ray.materialize.write import PartitionWriter
from ampd_ray.metadb import files
from ampd_ray.store.files import LocalStore, ObjectMeta
from tests.fakes.chains import extract

SPAN = Span(0, 59)


@pytest.fixture(scope="module")
def chain() -> DevChain:
    made = DevChain()
    made.mine(80)
    return made


@dataclass
class Catalogue:
    """Announcements and commits, in memory; raises ``errors`` at commits, one each."""

    announced: list[files.Intent] = field(default_factory=list)
    requests: list[files.CommitRequest] = field(default_factory=list)
    errors: list[AmpdError] = field(default_factory=list)
    ids: Any = field(default_factory=lambda: count(1))

    async def announce(self, db: Any, intents: Sequence[files.Intent], newest_ns: int | None = None) -> int:
        self.announced += intents
        return (newest_ns or 0) + 1000

    async def commit(self, db: Any, request: files.CommitRequest) -> list[files.CommittedFile]:
        self.requests.append(request)
        if self.errors:
            raise self.errors.pop(0)
        return [
            files.CommittedFile(f.table, f.location_id, f.file_name, Segment(next(self.ids), f.range, f.created_ns))
            for f in request.files
        ]


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    made = Catalogue()
    monkeypatch.setattr(files, "announce", made.announce)
    monkeypatch.setattr(files, "commit", made.commit)
    monkeypatch.setattr(patience, "PAUSES_SECS", (0.0,))
    return made


def partition(span: Span = SPAN, **fields: Any) -> Partition:
    settings: dict[str, Any] = {
        "known": {},
        "newest_ns": 5000,
        "options": WriterOptions(),
        "locations": tuple(Location(table, at, f"_/devnet/{table}/r", 3) for at, table in enumerate(TABLES, 1)),
    } | fields
    return Partition(
        job_id=1,
        node_id="worker-1",
        incarnation=uuid4(),
        number=0,
        network="devnet",
        spans=(span,),
        **settings,
    )


def writer_of(root: Path, store: LocalStore | None = None, **fields: Any) -> PartitionWriter:
    return PartitionWriter(partition(**fields), None, store or LocalStore(root))  # type: ignore[arg-type]


def published(root: Path) -> list[Path]:
    return list(root.glob("_/devnet/*/r/*"))


def left_over(root: Path) -> list[Path]:
    return [path for path in (root / ".ampd-ray-staging").rglob("*") if path.is_file()]


async def test_any_order_of_arrival_gives_the_same_files(tmp_path: Path, chain: DevChain, catalogue: Catalogue) -> None:
    spans = [Span(0, 9), Span(10, 29), Span(30, 30), Span(31, 59)]
    contents = set()
    for seed in range(6):
        root = tmp_path / str(seed)
        root.mkdir()
        order = random.Random(seed).sample(spans, len(spans))
        writer = writer_of(root, options=WriterOptions(segment_blocks=25))
        reports = [await writer.append(extract(chain, span)) for span in order]
        assert sorted(span for report in reports for span in report.appended) == spans
        assert [report.finished for report in reports] == [False, False, False, True]
        committed = [file for report in reports for file in report.committed]
        assert [file.range.span for file in committed[::3]] == [Span(0, 24), Span(25, 49), Span(50, 59)]
        contents.add(tuple(sorted((path.name, path.read_bytes()) for path in root.rglob("*.parquet"))))
        assert left_over(root) == []
    assert len(contents) == 1


async def test_rows_are_split_where_files_end(tmp_path: Path, chain: DevChain, catalogue: Catalogue) -> None:
    writer = writer_of(tmp_path, options=WriterOptions(segment_blocks=25))
    whole = extract(chain, SPAN)
    await writer.append(whole)
    for table in TABLES:
        parts = [pq.read_table(path) for path in sorted((tmp_path / f"_/devnet/{table}/r").iterdir())]
        numbers = [set(part["_block_num"].to_pylist()) for part in parts]
        assert all(max(a) < 25 <= min(b) and max(b) < 50 <= min(c) for a, b, c in [numbers])
        assert pa.concat_tables(parts).equals(whole.tables[table])


async def test_files_are_announced_before_they_appear(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_first(db: Any, intents: Sequence[files.Intent], newest_ns: int | None = None) -> int:
        assert published(tmp_path) == []
        return await catalogue.announce(db, intents, newest_ns)

    monkeypatch.setattr(files, "announce", look_first)
    await writer_of(tmp_path).append(extract(chain, SPAN))
    (request,) = catalogue.requests
    assert len(published(tmp_path)) == 3
    assert [(i.location_id, i.file_name, i.epoch) for i in catalogue.announced] == [
        (f.location_id, f.file_name, 3) for f in request.files
    ]
    assert {f.created_ns for f in request.files} == {6000}


async def test_a_block_whose_parent_is_another_starts_a_new_file(tmp_path: Path, catalogue: Catalogue) -> None:
    chain = DevChain()
    chain.mine(30)
    old = extract(chain, Span(0, 19))
    chain.reorg(15)
    writer = writer_of(tmp_path, span=Span(0, 29))
    await writer.append(old)
    report = await writer.append(extract(chain, Span(20, 29)))
    assert [file.range.span for file in report.committed[::3]] == [Span(0, 19), Span(20, 29)]
    first, second = (request.files[0].range for request in catalogue.requests)
    assert first.hash != second.prev_hash


async def test_a_report_says_whether_a_file_is_open(tmp_path: Path, chain: DevChain, catalogue: Catalogue) -> None:
    writer = writer_of(tmp_path, finalized=14)
    report = await writer.append(extract(chain, Span(0, 19)))
    assert [file.range.span for file in report.committed[:1]] == [Span(0, 14)]
    assert report.open
    report = await writer.flush("age")
    assert [file.range.span for file in report.committed[:1]] == [Span(15, 19)]
    assert not report.open
    assert (await writer.flush("age")).committed == ()
    report = await writer.append(extract(chain, Span(20, 59)))
    assert (report.open, report.finished) == (False, True)


# -- commits ----------------------------------------------------------------------------------------------------------


async def test_rows_that_a_stop_overtook_are_dropped_and_no_fault(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue
) -> None:
    writer = writer_of(tmp_path)
    await writer.append(extract(chain, Span(0, 9)))
    await writer.append(extract(chain, Span(30, 39)))
    stopped = await writer.flush("stop")
    assert [file.range.span for file in stopped.committed[::3]] == [Span(0, 9), Span(30, 39)]
    late = await writer.append(extract(chain, Span(10, 29)))
    assert (late.appended, late.committed, late.open, late.finished) == ((), (), False, False)
    assert left_over(tmp_path) == []


async def test_a_database_that_is_away_is_asked_again_with_the_same_request(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue
) -> None:
    catalogue.errors = [DatabaseUnavailable("away"), DatabaseUnavailable("away")]
    report = await writer_of(tmp_path).append(extract(chain, SPAN))
    assert len(report.committed) == 3
    assert len(catalogue.requests) == 3
    assert len({id(request) for request in catalogue.requests}) == 1


async def test_a_store_that_is_away_is_sent_the_same_files_again(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue
) -> None:
    class Busy(LocalStore):
        refusals = 2
        sent: list[str] = []  # noqa: RUF012

        def publish(self, staged: Path, path: str) -> ObjectMeta:
            self.sent.append(path)
            if self.refusals:
                self.refusals -= 1
                raise StoreUnavailable(f"cannot write {path}: S3 is in trouble (SlowDown); try later")
            return super().publish(staged, path)

    store = Busy(tmp_path)
    report = await writer_of(tmp_path, store).append(extract(chain, SPAN))
    assert (len(report.committed), len(catalogue.requests), len(catalogue.announced)) == (3, 1, 3)
    assert (len(store.sent), len(set(store.sent))) == (5, 3)
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    "errors", [[Overlap("others")], [Fenced("taken")], [DatabaseUnavailable("away")]], ids=lambda e: e[0].code
)
async def test_a_writer_that_failed_takes_nothing_more(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue, errors: list[AmpdError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after the gap might commit, and the next plan would run into it."""
    monkeypatch.setattr(write, "AWAY_WITHIN_SECS", 0.0)
    catalogue.errors = list(errors)
    writer = writer_of(tmp_path, options=WriterOptions(segment_blocks=20))
    first, later = extract(chain, Span(0, 19)), extract(chain, Span(20, 59))
    outcomes = await asyncio.gather(
        writer.append(first), writer.append(later), writer.flush("stop"), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(errors[0]), ActorLost, ActorLost]
    assert len(catalogue.requests) == len(errors)
    assert left_over(tmp_path) == []
    await writer.discard()
    await writer.discard()


async def test_what_is_as_it_was_is_not_written_again(tmp_path: Path, chain: DevChain, catalogue: Catalogue) -> None:
    """Two tables hold just these blocks, one holds others."""
    last = chain.block(59)
    assert last is not None
    same = BlockRange("devnet", 0, 59, hash=last.hash, prev_hash=bytes(32), timestamp=last.timestamp)
    other = BlockRange("devnet", 0, 59, hash=b"?" * 32, prev_hash=bytes(32), timestamp=last.timestamp)
    writer = writer_of(tmp_path, known={1: {7: same}, 2: {8: other}, 3: {9: other, 10: same}})
    report = await writer.append(extract(chain, SPAN))
    assert report.finished
    assert [file.table for file in report.committed] == [TABLES[1]]
    assert report.unchanged == (UnchangedFile(TABLES[0], 7, SPAN), UnchangedFile(TABLES[2], 10, SPAN))
    assert [(f.table, f.known) for f in catalogue.requests[0].files] == [(TABLES[1], frozenset({8}))]
    assert left_over(tmp_path) == []
    assert len(published(tmp_path)) == 1


async def test_what_is_as_it_was_everywhere_needs_no_commit(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue
) -> None:
    last = chain.block(59)
    assert last is not None
    same = BlockRange("devnet", 0, 59, hash=last.hash, prev_hash=bytes(32), timestamp=last.timestamp)
    report = await writer_of(tmp_path, known={at: {at: same} for at in (1, 2, 3)}).append(extract(chain, SPAN))
    assert (report.finished, report.committed) == (True, ())
    assert (catalogue.announced, catalogue.requests) == ([], [])
    assert left_over(tmp_path) == []


async def test_an_orphan_that_comes_back_is_written_again(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue
) -> None:
    """File 7 is just this, but off the chain; file 8 is just this and on it, so its orphaned twin 9 does not matter."""
    last = chain.block(59)
    assert last is not None
    same = BlockRange("devnet", 0, 59, hash=last.hash, prev_hash=bytes(32), timestamp=last.timestamp)
    known = {1: {7: same}, 2: {9: same, 8: same}, 3: {10: same}}
    report = await writer_of(tmp_path, known=known, again=frozenset({7, 9})).append(extract(chain, SPAN))
    assert [file.table for file in report.committed] == [TABLES[0]]
    assert report.unchanged == (UnchangedFile(TABLES[1], 8, SPAN), UnchangedFile(TABLES[2], 10, SPAN))
    assert catalogue.requests[0].files[0].created_ns > 5000
    assert left_over(tmp_path) == []


# -- what the store holds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: data + b"?"])
async def test_what_the_store_does_not_give_back_as_written_is_not_committed(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue, damage: Callable[[bytes], bytes]
) -> None:
    class Forgetful(LocalStore):
        def publish(self, staged: Path, path: str) -> ObjectMeta:
            if "/logs/" in path:
                staged.write_bytes(damage(staged.read_bytes()))
            return super().publish(staged, path)

    writer = writer_of(tmp_path, Forgetful(tmp_path))
    with pytest.raises(StoreError, match=r"logs/r/000000000-.*not committed.*check the disk"):
        await writer.append(extract(chain, SPAN))
    assert catalogue.requests == []
    assert left_over(tmp_path) == []


# -- endings ----------------------------------------------------------------------------------------------------------


async def test_discarding_removes_what_is_open_and_what_waits(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue
) -> None:
    writer = writer_of(tmp_path)
    await writer.append(extract(chain, Span(0, 9)))
    await writer.append(extract(chain, Span(20, 29)))
    assert len(left_over(tmp_path)) == 3
    await writer.discard()
    assert left_over(tmp_path) == []
    with pytest.raises(ActorLost, match=r"blocks 0\.\.59 has given them up"):
        await writer.append(extract(chain, Span(10, 19)))


async def test_a_cancelled_call_lets_its_thread_end_before_its_files_go(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue
) -> None:
    class Slow(LocalStore):
        publishing = threading.Event()
        go_on = threading.Event()
        published = 0

        def publish(self, staged: Path, path: str) -> ObjectMeta:
            self.publishing.set()
            assert self.go_on.wait(10)
            assert staged.exists()  # nobody has discarded it meanwhile
            self.published += 1
            return super().publish(staged, path)

    store = Slow(tmp_path)
    appending = asyncio.create_task(writer_of(tmp_path, store).append(extract(chain, SPAN)))
    assert await asyncio.to_thread(store.publishing.wait, 10)
    appending.cancel()
    await asyncio.sleep(0)
    assert not appending.done()
    store.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await appending
    assert store.published == 1
    assert catalogue.requests == []
    assert left_over(tmp_path) == []


async def test_a_committed_file_is_reported_with_its_rows_and_bytes(
    tmp_path: Path, chain: DevChain, catalogue: Catalogue
) -> None:
    whole = extract(chain, SPAN)
    report = await writer_of(tmp_path).append(whole)
    for at, file in enumerate(report.committed, 1):
        (path,) = (tmp_path / f"_/devnet/{file.table}/r").iterdir()
        rows = whole.tables[file.table].num_rows
        assert file == CommittedFile(file.table, at, at, file.range, 6000, rows, path.stat().st_size)
