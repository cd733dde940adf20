"""A corpus of damaged datasets: each damage is found by name, mended where that is safe, and reported otherwise."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import StoreError
from ampd_ray.materialize.audit import Finding
from ampd_ray.materialize.check import Audit, Progress, TableAudit
from ampd_ray.materialize.mend import Mender
from ampd_ray.metadb import audit as audit_rows
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import LocalStore
from tests.fakes.ampd import ampd
from tests.fakes.bench import Bench
from tests.servers import READER, as_user

OLD = 25 * 3600  # seconds


@dataclass
class Checked:
    """What one audit found."""

    tables: list[TableAudit]

    @property
    def findings(self) -> list[Finding]:
        return [finding for table in self.tables for finding in table.findings]

    @property
    def kinds(self) -> set[tuple[str, str]]:
        """Kind and table of everything found."""
        return {(str(finding.kind), finding.table) for finding in self.findings}

    @property
    def remaining(self) -> set[tuple[str, str]]:
        return {(str(finding.kind), finding.table) for finding in self.findings if not finding.repaired}


async def check(
    bench: Bench, *, repair: bool = False, on_progress: Callable[[Progress], None] | None = None
) -> Checked:
    more: dict[str, Any] = {"on_progress": on_progress} if on_progress else {}
    audit = Audit(bench.db, bench.data, await bench.revisions(), bench.manifest.start_block, **more)
    await audit.run()
    if repair:
        await Mender(audit, bench.db, bench.data).mend()
    return Checked(audit.tables)


@dataclass(frozen=True)
class Target:
    """One file of a table: its row's id, its object, its revision's id and path."""

    id: int
    path: Path
    location_id: int
    revision: str

    @property
    def object(self) -> str:
        return f"{self.revision}/{self.path.name}"


async def target(bench: Bench, table: str = "logs", start: int = 25) -> Target:
    revision = (await bench.revisions())[table]
    (row,) = await bench.query(
        "select id, file_name from file_metadata where location_id = %s"
        " and (metadata #>> '{ranges,0,numbers,start}')::int = %s",
        revision.location_id, start,
    )  # fmt: skip
    path = bench.root / "data" / revision.path / row.file_name
    return Target(row.id, path, revision.location_id, revision.path)


# -- a healthy dataset -------------------------------------------------------------------------------------------------


async def test_a_healthy_dataset_has_no_finding(finished: Bench) -> None:
    seen: list[Progress] = []
    checked = await check(finished, on_progress=seen.append)
    assert checked.findings == []
    assert {table.table for table in checked.tables} == {"blocks", "transactions", "logs"}
    assert all(table.covered == [Span(0, 99)] for table in checked.tables)
    assert [step.files for step in seen] == list(range(1, 13))
    assert seen[-1].files == seen[-1].files_total
    assert seen[-1].bytes == seen[-1].bytes_total > 0


async def test_the_role_that_only_reads_may_check(finished: Bench, finished_url: str) -> None:
    reader = Database(as_user(READER, finished_url))
    await reader.open()
    try:
        audit = Audit(reader, finished.data, await finished.revisions(), finished.manifest.start_block)
        await audit.run()
    finally:
        await reader.close()
    assert [finding for table in audit.tables for finding in table.findings] == []
    assert all(table.covered == [Span(0, 99)] for table in audit.tables)


async def test_mending_a_healthy_dataset_changes_nothing(finished: Bench) -> None:
    async def state() -> list[Any]:
        return [
            await finished.query(f"select * from {table} order by 1")
            for table in ("file_metadata", "footer_cache", "gc_manifest", "ampd_ray.segment", "ampd_ray.location_lease")
        ]

    before, objects = await state(), await finished.objects()
    assert (await check(finished, repair=True)).findings == []
    assert await state() == before
    assert await finished.objects() == objects


async def test_more_than_a_page_is_checked(finished: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampd_ray.metadb.audit.PAGE", 3)
    monkeypatch.setattr(audit_rows.file_rows, "__defaults__", (0, 3))
    monkeypatch.setattr("ampd_ray.materialize.check._NAMES", 3)
    assert (await check(finished)).findings == []
    (await target(finished, "logs", 75)).path.unlink()
    assert (await check(finished)).kinds == {("object_missing", "logs")}


# -- the corpus --------------------------------------------------------------------------------------------------------

Damage = Callable[[Bench], Awaitable[None]]
CORPUS: dict[str, tuple[Damage, set[str], bool]] = {}
"""By name: what to do to the file of blocks 25 to 49 of ``logs``, the kinds that it must be found as, all mended?"""


def damage(*kinds: str, mended: bool) -> Callable[[Damage], Damage]:
    def register(do: Damage) -> Damage:
        CORPUS[do.__name__] = (do, set(kinds), mended)
        return do

    return register


@damage("object_missing", mended=False)
async def deleted_object(bench: Bench) -> None:
    (await target(bench)).path.unlink()


@damage("object_size", "parquet_unreadable", mended=False)
async def truncated_object(bench: Bench) -> None:
    path = (await target(bench)).path
    os.truncate(path, path.stat().st_size - 100)


@damage("object_size", "parquet_unreadable", mended=False)
async def empty_object(bench: Bench) -> None:
    os.truncate((await target(bench)).path, 0)


@damage("object_checksum", mended=False)
async def flipped_byte(bench: Bench) -> None:
    flip((await target(bench)).path, 1000)


@damage("object_checksum", "parquet_unreadable", mended=False)
async def flipped_byte_in_the_magic(bench: Bench) -> None:
    flip((await target(bench)).path, -1)


@damage("object_size", "row_count", "footer_differs", mended=False)
async def fewer_rows(bench: Bench) -> None:
    path = (await target(bench)).path
    table = pq.read_table(path)
    write_like(path, table.slice(1))


@damage("object_checksum", "blocks_outside", mended=False)
async def rows_of_another_block(bench: Bench) -> None:
    """Same size, other content: the size in the row follows, so that the checksum has to tell."""
    aim = await target(bench)
    numbers = pq.read_table(aim.path).column("_block_num").to_pylist()
    table = pq.read_table(aim.path).set_column(0, "_block_num", pa.array([n + 25 for n in numbers], pa.uint64()))
    write_like(aim.path, table)
    await bench.execute("update file_metadata set object_size = %s where id = %s", aim.path.stat().st_size, aim.id)
    footer = aim.path.read_bytes()
    footer = footer[-8 - int.from_bytes(footer[-8:-4], "little") :]
    await bench.execute("update footer_cache set footer = %s where file_id = %s", footer, aim.id)


@damage("hole", mended=False)
async def row_deleted(bench: Bench) -> None:
    """With row and object gone only the gap tells."""
    aim = await target(bench)
    await bench.execute("delete from file_metadata where id = %s", aim.id)
    await bench.execute("delete from ampd_ray.segment where file_id = %s", aim.id)
    aim.path.unlink()


@damage("hole", "orphan_object", "segment_stray", mended=False)
async def row_deleted_but_nothing_else(bench: Bench) -> None:
    await bench.execute("delete from file_metadata where id = %s", (await target(bench)).id)


@damage("tables_differ", mended=False)
async def last_row_deleted(bench: Bench) -> None:
    aim = await target(bench, start=75)
    await bench.execute("delete from file_metadata where id = %s", aim.id)
    await bench.execute("delete from ampd_ray.segment where file_id = %s", aim.id)
    aim.path.unlink()


@damage("hole", mended=False)
async def first_row_deleted(bench: Bench) -> None:
    aim = await target(bench, start=0)
    await bench.execute("delete from file_metadata where id = %s", aim.id)
    await bench.execute("delete from ampd_ray.segment where file_id = %s", aim.id)
    aim.path.unlink()


@damage("row_unreadable", "metadata_differs", "hole", mended=False)
async def row_of_another_kind(bench: Bench) -> None:
    await bench.execute("update file_metadata set metadata = '{}' where id = %s", (await target(bench)).id)


@damage("metadata_differs", mended=False)
async def row_edited(bench: Bench) -> None:
    await bench.execute(
        "update file_metadata set metadata = jsonb_set(metadata, '{created_at,secs}', '1') where id = %s",
        (await target(bench)).id,
    )


@damage("chain_broken", "fork", "metadata_differs", "segment_differs", mended=False)
async def row_of_another_branch(bench: Bench) -> None:
    """Then the chain ends before it, and all above is another branch."""
    await bench.execute(
        "update file_metadata set metadata = jsonb_set(metadata, '{ranges,0,prev_hash}', to_jsonb(%s::text))"
        " where id = %s",
        "0x" + "ab" * 32, (await target(bench)).id,
    )  # fmt: skip


@damage("segment_missing", mended=True)
async def segment_row_deleted(bench: Bench) -> None:
    await bench.execute("delete from ampd_ray.segment where file_id = %s", (await target(bench)).id)


@damage("segment_missing", mended=True)
async def index_lost(bench: Bench) -> None:
    await bench.execute("delete from ampd_ray.segment where location_id = %s", (await target(bench)).location_id)


@damage("segment_differs", mended=True)
async def segment_of_other_blocks(bench: Bench) -> None:
    await bench.execute(
        "update ampd_ray.segment set blocks = '[500,600)' where file_id = %s", (await target(bench)).id
    )  # fmt: skip


@damage("segment_differs", mended=True)
async def segment_of_another_revision(bench: Bench) -> None:
    await bench.execute("update ampd_ray.segment set location_id = 999 where file_id = %s", (await target(bench)).id)


@damage("segment_stray", mended=True)
async def segment_without_a_file(bench: Bench) -> None:
    await bench.execute(
        "insert into ampd_ray.segment select 99999, location_id, network, '[5000,6000)', start_parent, end_hash,"
        " sha256, epoch, verified, false, row_count from ampd_ray.segment where file_id = %s",
        (await target(bench)).id,
    )


@damage("row_count", mended=True)
async def wrong_row_count(bench: Bench) -> None:
    await bench.execute("update ampd_ray.segment set row_count = 7 where file_id = %s", (await target(bench)).id)


@damage("canonical_flag", mended=True)
async def flag_lost(bench: Bench) -> None:
    await bench.execute("update ampd_ray.segment set canonical = false where file_id = %s", (await target(bench)).id)


@damage("overlap", "canonical_flag", mended=True)
async def overlapping_rows(bench: Bench) -> None:
    """A newer copy of the file, as of an Amp writer; both are live, which only our constraint would have refused."""
    await bench.execute("alter table ampd_ray.segment drop constraint segment_no_overlap")
    aim = await target(bench)
    await copy_row(bench, aim, "000000025-00000000000000aa.parquet", canonical=True)


@damage("fork", "overlap", "canonical_flag", mended=False)
async def a_fork_that_reaches_higher(bench: Bench) -> None:
    """Blocks 90 to 120 of another branch: the next run of a job would repair that."""
    await bench.execute("alter table ampd_ray.segment drop constraint segment_no_overlap")
    aim = await target(bench, start=75)
    name = "000000090-00000000000000bb.parquet"
    numbers = {"start": 90, "end": 120}
    await copy_row(bench, aim, name, canonical=True, numbers=numbers, hash="0x" + "cd" * 32, prev_hash="0x" + "ce" * 32)


@damage("queued_canonical", mended=True)
async def live_file_queued(bench: Bench) -> None:
    aim = await target(bench)
    await bench.execute(
        "insert into gc_manifest (location_id, file_id, file_path, expiration)"
        " values (%s, %s, %s, now() at time zone 'utc' + interval '1 hour')",
        aim.location_id, aim.id, aim.path.name,
    )  # fmt: skip


@damage("footer_missing", mended=True)
async def footer_row_missing(bench: Bench) -> None:
    await bench.execute("delete from footer_cache where file_id = %s", (await target(bench)).id)


@damage("footer_differs", mended=True)
async def footer_of_another_file(bench: Bench) -> None:
    aim, other = await target(bench), await target(bench, start=0)
    await bench.execute(
        "update footer_cache set footer = (select footer from footer_cache where file_id = %s) where file_id = %s",
        other.id, aim.id,
    )  # fmt: skip


@damage("footer_missing", "object_checksum", mended=False)
async def footer_missing_of_a_damaged_file(bench: Bench) -> None:
    """Nothing is derived from a file that is not what was written."""
    flip((await target(bench)).path, 1000)
    await footer_row_missing(bench)


@damage("orphan_object", mended=False)
async def fresh_orphan(bench: Bench) -> None:
    await orphan(bench, "000000500-00000000000000aa.parquet", age=0)


@damage("orphan_object", mended=True)
async def old_orphan(bench: Bench) -> None:
    await orphan(bench, "000000500-00000000000000aa.parquet", age=OLD)


@damage("orphan_object", mended=False)
async def old_orphan_of_somebody_else(bench: Bench) -> None:
    await orphan(bench, "README.txt", age=OLD)


@damage("staging_leftover", mended=True)
async def stale_staging(bench: Bench) -> None:
    staged = bench.data.stage((await target(bench)).location_id, 0, "half.parquet")
    staged.write_bytes(b"half")


@damage("intent_superseded", mended=True)
async def lower_intent_with_its_object(bench: Bench) -> None:
    await intent(bench, epoch=0, upload=True)


@damage("intent_superseded", mended=True)
async def lower_intent_without_object(bench: Bench) -> None:
    await intent(bench, epoch=0, upload=False)


@damage("intent_superseded", mended=True)
async def swept_intent_with_a_late_upload(bench: Bench) -> None:
    await intent(bench, epoch=0, upload=True)
    await bench.execute("update ampd_ray.file_intent set swept_at = now() - interval '1 minute'")


@damage("intent_abandoned", mended=True)
async def intent_of_an_ended_job(bench: Bench) -> None:
    await intent(bench, epoch=1, upload=True)
    await bench.execute("update ampd_ray.location_lease set expires_at = now()")


@damage("intent_abandoned", mended=False)
async def intent_of_a_job_that_goes_on(bench: Bench) -> None:
    """Its node may be away for a moment: only who takes the job over may delete what it announced."""
    await intent_of_an_ended_job(bench)
    await bench.execute("update jobs_status set status = 'RUNNING'")


@damage("intent_fulfilled", mended=True)
async def intent_of_a_registered_file(bench: Bench) -> None:
    aim = await target(bench)
    await bench.execute(
        "insert into ampd_ray.file_intent (location_id, file_name, epoch) values (%s, %s, 0)",
        aim.location_id, aim.path.name,
    )  # fmt: skip


@damage("tombstone", mended=True)
async def tombstone_with_its_object(bench: Bench) -> None:
    aim = await target(bench)
    bench.data.write(f"{aim.revision}/000000300-00000000000000aa.parquet", b"replaced")
    await tombstone(bench, aim, "000000300-00000000000000aa.parquet")


@damage("tombstone", mended=True)
async def tombstone_without_object(bench: Bench) -> None:
    await tombstone(bench, await target(bench), "000000300-00000000000000aa.parquet")


@damage("tombstone_registered", mended=True)
async def tombstone_of_a_registered_file(bench: Bench) -> None:
    aim = await target(bench)
    await tombstone(bench, aim, aim.path.name)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def write_like(path: Path, table: pa.Table) -> None:
    """Rewrite a file with other rows, and the same keys in its footer."""
    keys = pq.read_metadata(path).metadata
    with pq.ParquetWriter(path, table.schema, version="2.6") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({k: v for k, v in keys.items() if k != b"ARROW:schema"})


async def orphan(bench: Bench, name: str, age: int) -> None:
    path = (await target(bench)).path.with_name(name)
    path.write_bytes(b"whose is this?")
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))


async def intent(bench: Bench, epoch: int, *, upload: bool) -> None:
    aim, name = await target(bench), "000000100-00000000000000aa.parquet"
    await bench.execute(
        "insert into ampd_ray.file_intent (location_id, file_name, epoch) values (%s, %s, %s)",
        aim.location_id, name, epoch,
    )  # fmt: skip
    if upload:
        bench.data.write(f"{aim.revision}/{name}", b"half a file")


async def tombstone(bench: Bench, aim: Target, name: str) -> None:
    await bench.execute(
        "insert into ampd_ray.tombstone (url, location_id) values (%s, %s)",
        bench.data.url_of(f"{aim.revision}/{name}"), aim.location_id,
    )  # fmt: skip


async def copy_row(bench: Bench, aim: Target, name: str, *, canonical: bool, **range_: Any) -> None:
    """A complete file of that name, with all its rows; ``range_``: what its range says otherwise."""
    (row,) = await bench.query("select metadata, url from file_metadata where id = %s", aim.id)
    described = row.metadata | {"filename": name, "created_at": {"secs": 4_000_000_000, "nanos": 0}}
    described["ranges"] = [described["ranges"][0] | range_]
    path = aim.path.with_name(name)
    table = pq.read_table(aim.path)
    if range_:
        table = table.filter(pa.compute.greater_equal(table.column("_block_num"), range_["numbers"]["start"]))
    shutil.copyfile(aim.path, path)
    with pq.ParquetWriter(path, table.schema, version="2.6") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"nozzle_metadata": json.dumps(described)})
    content = path.read_bytes()
    (new,) = await bench.query(
        "insert into file_metadata (location_id, file_name, metadata, object_size, url)"
        " values (%s, %s, %s::jsonb, %s, %s) returning id",
        aim.location_id, name, json.dumps(described), len(content), row.url,
    )  # fmt: skip
    footer = content[-8 - int.from_bytes(content[-8:-4], "little") :]
    await bench.execute("insert into footer_cache (file_id, footer) values (%s, %s)", new.id, footer)
    numbers = described["ranges"][0]["numbers"]
    await bench.execute(
        "insert into ampd_ray.segment (file_id, location_id, network, blocks, start_parent, end_hash, canonical)"
        " values (%s, %s, 'devnet', int8range(%s, %s, '[]'), decode(%s, 'hex'), decode(%s, 'hex'), %s)",
        new.id, aim.location_id, numbers["start"], numbers["end"],
        described["ranges"][0]["prev_hash"][2:], described["ranges"][0]["hash"][2:], canonical,
    )  # fmt: skip


async def registered(bench: Bench) -> list[Any]:
    return await bench.query("select * from file_metadata order by id")


def objects(paths: Iterable[Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", CORPUS)
async def test_a_damage_is_found_by_name_and_mended_where_that_is_safe(finished: Bench, name: str) -> None:
    do, kinds, mended = CORPUS[name]
    await do(finished)
    rows = await registered(finished)
    files = objects(set((await finished.paths("logs")).values()) & await finished.objects())
    wanted = {(kind, "logs") for kind in kinds}

    found = await check(finished)
    assert found.kinds == wanted, found.findings
    assert found.remaining == wanted

    repaired = await check(finished, repair=True)
    assert repaired.kinds == wanted, "looking changed nothing"
    again = await check(finished)
    assert again.kinds == repaired.remaining
    assert (again.findings == []) is mended, again.findings
    assert await registered(finished) == rows
    assert objects(files) == files


async def test_what_is_mended_is_what_it_was(finished: Bench) -> None:
    """But for what nothing but the lost row knew: which epoch wrote the file, and how it was verified."""
    said = "select file_id, location_id, network, blocks, start_parent, end_hash, sha256, canonical, row_count"
    statement = f"{said} from ampd_ray.segment order by file_id"
    before = await finished.query(statement)
    footers = await finished.query("select * from footer_cache order by file_id")
    await finished.execute("delete from ampd_ray.segment where file_id %% 2 = 0")
    await finished.execute("update ampd_ray.segment set row_count = 1, blocks = '[7000,7001)', canonical = false")
    await finished.execute("delete from footer_cache where file_id %% 3 = 0")
    assert (await check(finished, repair=True)).remaining == set()
    assert await finished.query(statement) == before
    assert await finished.query("select * from footer_cache order by file_id") == footers


async def test_a_file_without_a_checksum_is_read_through(finished: Bench) -> None:
    """As one of an Amp writer."""
    aim = await target(finished)
    await finished.execute("update ampd_ray.segment set sha256 = null, row_count = null where file_id = %s", aim.id)
    assert (await check(finished)).findings == []
    data = pq.read_metadata(aim.path).row_group(0).column(7)
    flip(aim.path, data.data_page_offset + data.total_compressed_size // 2)
    assert (await check(finished)).kinds == {("parquet_unreadable", "logs")}


async def test_everything_at_once(finished: Bench) -> None:
    """Damages do not hide one another, and those that can be mended are."""
    for do in (segment_row_deleted, footer_row_missing, old_orphan, lower_intent_with_its_object, stale_staging,
               tombstone_with_its_object):  # fmt: skip
        await do(finished)
    (await target(finished, "blocks", 50)).path.unlink()
    flip((await target(finished, "transactions", 0)).path, 500)
    repaired = await check(finished, repair=True)
    kinds = ("segment_missing", "footer_missing", "orphan_object", "intent_superseded", "staging_leftover", "tombstone")
    left = {("object_missing", "blocks"), ("object_checksum", "transactions")}
    assert repaired.kinds == {(kind, "logs") for kind in kinds} | left
    assert repaired.remaining == left


async def test_an_orphan_that_cannot_be_deleted_stays_a_finding(finished: Bench) -> None:
    class Stubborn(LocalStore):
        def delete(self, path: str) -> None:
            raise StoreError("no")

    await old_orphan(finished)
    await tombstone_with_its_object(finished)
    finished.data = Stubborn(finished.root / "data")
    expected = {("orphan_object", "logs"), ("tombstone", "logs")}
    assert (await check(finished, repair=True)).remaining == expected


# -- beside a running job ----------------------------------------------------------------------------------------------


async def test_what_a_holder_is_about_to_commit_is_no_finding(finished: Bench) -> None:
    await intent(finished, epoch=1, upload=True)
    await finished.execute("update ampd_ray.location_lease set expires_at = now() + interval '1 hour'")
    staged = finished.data.stage((await target(finished)).location_id, 1, "open.parquet")
    staged.write_bytes(b"half")
    assert (await check(finished, repair=True)).findings == []
    assert staged.exists()


class Meddling(LocalStore):
    """Something happens while objects are read."""

    happens: Callable[[], None] | None = None

    def open(self, path: str) -> Any:
        if self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return super().open(path)


async def test_a_file_that_is_collected_meanwhile_is_no_finding(finished: Bench, finished_url: str) -> None:
    aim = await target(finished, start=75)

    def collect() -> None:
        with psycopg.connect(finished_url, autocommit=True) as connection:
            connection.execute("delete from file_metadata where id = %s", [aim.id])
        aim.path.unlink()

    finished.data = store = Meddling(finished.root / "data")
    store.happens = collect
    kinds = {kind for kind, _ in (await check(finished)).kinds}
    assert "object_missing" not in kinds


async def test_an_object_that_is_registered_meanwhile_is_no_orphan(finished: Bench, finished_url: str) -> None:
    aim = await target(finished)
    await fresh_orphan(finished)
    name = "000000500-00000000000000aa.parquet"

    def commit() -> None:
        with psycopg.connect(finished_url, autocommit=True) as connection:
            connection.execute(
                "insert into ampd_ray.file_intent (location_id, file_name, epoch) values (%s, %s, 1)",
                [aim.location_id, name],
            )
            connection.execute("update ampd_ray.location_lease set expires_at = now() + interval '1 hour'")

    finished.data = store = Meddling(finished.root / "data")
    store.happens = commit
    assert (await check(finished)).findings == []


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(finished: Bench, finished_url: str) -> Path:
    (finished.root / "providers").mkdir()
    path = finished.root / "config.toml"
    path.write_text(f'[metadata_db]\nurl = "{finished_url}"\n')
    return path


async def test_the_command(finished: Bench, config: Path) -> None:
    healthy = ampd("check", "_/devnet", "--config", config)
    assert (healthy.code, healthy.err) == (0, ""), healthy
    assert "findings      none" in healthy.out
    assert "blocks        4 files" in healthy.out
    assert "0 to 99" in healthy.out

    await segment_row_deleted(finished)
    (await target(finished, "blocks", 50)).path.unlink()
    damaged = ampd("check", "_/devnet", "--config", config, "--json")
    assert damaged.code == 1, damaged
    report = json.loads(damaged.out)
    assert report["counts"] == {"object_missing": 1, "segment_missing": 1}
    assert report["remaining"] == 2
    assert report["tables"]["blocks"]["covered"] == [[0, 99]]
    assert {(each["kind"], each["table"], each["repaired"]) for each in report["findings"]} == {
        ("object_missing", "blocks", False), ("segment_missing", "logs", False)
    }  # fmt: skip

    mended = ampd("check", "_/devnet@dev", "--config", config, "--repair")
    assert mended.code == 1, mended
    assert "findings      2, 1 of them repaired" in mended.out
    assert "object_missing  blocks  000000050-" in mended.out
    assert "(repaired)" in mended.out


def test_an_unknown_dataset_is_said_in_a_line(config: Path) -> None:
    unknown = ampd("check", "_/nothing", "--config", config)
    assert unknown.code == 1
    assert "dataset _/nothing does not exist" in unknown.error
