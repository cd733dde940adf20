"""Whoever may write rows cannot have files read, written or deleted that are none of the revision they name."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ampd_ray.errors import AmpdError, InvalidDescriptor, InvalidName, StoreError
from ampd_ray.materialize.sweep import Broom
from ampd_ray.materialize.types import Location, Outcome
from ampd_ray.metadb import files, sweep
from tests.fakes.bench import Bench, Run

PATHS = ["../outside", "/etc", "_/devnet/../../../outside", "_//devnet/blocks", ".ampd-ray-staging/1", "", "a\nb"]
NAMES = ["../x.parquet", "/etc/passwd", "sub/x.parquet", "..", "a\\b", "a\nb", ""]
GROUP = "group-1"


@pytest.fixture
def bench(finished: Bench) -> Bench:
    return finished


@pytest.fixture
async def blocks(bench: Bench) -> Location:
    """Files 0-24, 25-49 and so on up to 99, of a job that has ended."""
    revision = (await bench.revisions())["blocks"]
    return Location("blocks", revision.location_id, revision.path, 2)


async def fails(bench: Bench, run: Run) -> AmpdError:
    """Why a run ends that can do nothing."""
    outcome = await bench.again(run.spec)()
    assert (outcome.outcome, outcome.error is None) == (Outcome.FAILED, False)
    assert outcome.error is not None
    return outcome.error


async def test_a_revision_that_leads_elsewhere_is_not_opened(bench: Bench, blocks: Location) -> None:
    run = await bench.job(end_block="120")
    before = set(bench.root.rglob("*"))
    for path in PATHS:
        await bench.execute("update physical_table_revisions set path = %s where id = %s", path, blocks.location_id)
        assert "is not the directory of a revision" in (await fails(bench, run)).message
        with pytest.raises(InvalidName):
            await bench.revisions()
    assert set(bench.root.rglob("*")) == before


async def test_a_file_that_is_elsewhere_is_not_read(bench: Bench, blocks: Location) -> None:
    run = await bench.job(end_block="120")
    (row,) = await bench.query("select min(id) as id from file_metadata where location_id = %s", blocks.location_id)
    for name in NAMES:
        await bench.execute("update file_metadata set file_name = %s where id = %s", name, row.id)
        assert "is not the name of a file" in (await fails(bench, run)).message
        async with bench.db.connection() as conn:
            with pytest.raises(InvalidName, match="is not the name of a file"):
                await files.canonical_files(conn, [blocks.location_id])


async def test_a_tombstone_has_nothing_deleted_but_in_its_revision(bench: Bench, blocks: Location) -> None:
    (theirs, *_) = (await bench.paths("logs")).values()
    outside, staged = bench.root / "outside.parquet", ".ampd-ray-staging/7/1/x.parquet"
    outside.write_bytes(b"mine")
    gone = f"{blocks.path}/gone.parquet"
    for path in (gone, staged):
        bench.data.write(path, b"x")
    aims = [bench.data.url_of(path) for path in (staged, gone)] + [theirs.as_uri(), outside.as_uri()]
    for url in [*aims, f"{bench.data.url_of(blocks.path)}/../../logs/x.parquet"]:
        await bench.execute(
            "insert into ampd_ray.tombstone (url, location_id) values (%s, %s)", url, blocks.location_id
        )
    await hold(bench, blocks)
    assert (await Broom(bench.db, bench.data, collect=True).sweep(blocks)).tombstones == 1
    assert not bench.data.exists(gone)
    assert outside.exists()
    assert theirs.exists()
    assert bench.data.exists(staged)


async def test_an_intent_has_nothing_deleted_outside_the_data_directory(bench: Bench, blocks: Location) -> None:
    outside, inside = bench.root / "outside.parquet", f"{blocks.path}/half.parquet"
    outside.write_bytes(b"mine")
    bench.data.write(inside, b"x")
    for name in ("../" * 5 + outside.name, str(outside), "half.parquet"):
        await bench.execute("insert into ampd_ray.file_intent values (%s, %s, 1)", blocks.location_id, name)
    await hold(bench, blocks)
    with pytest.raises(StoreError, match="is not a path inside"):
        await Broom(bench.db, bench.data, collect=True).sweep(blocks)
    assert outside.exists()
    assert not bench.data.exists(inside)


async def test_one_revision_that_leads_elsewhere_keeps_no_other_from_being_swept(
    bench: Bench, blocks: Location, caplog: pytest.LogCaptureFixture
) -> None:
    found = await bench.revisions()
    await bench.execute("update workers set info = info || jsonb_build_object('failover_group', %s::text)", GROUP)
    for revision in found.values():
        await bench.execute("insert into ampd_ray.file_intent values (%s, 'half.parquet', 0)", revision.location_id)
    await bench.execute("update ampd_ray.location_lease set expires_at = now() - interval '1 hour'")
    await bench.execute("update physical_table_revisions set path = '../x' where id = %s", blocks.location_id)
    async with bench.db.connection() as conn:
        idle = await sweep.idle(conn, GROUP, timedelta(0))
    others = {revision.location_id for revision in found.values()} - {blocks.location_id}
    assert {revision.location_id for revision in idle} == others
    assert f"revision {blocks.location_id} is not swept: '../x'" in caplog.text


async def test_a_table_that_there_is_not_is_not_made(bench: Bench) -> None:
    run = await bench.job(end_block="120")
    spec = replace(run.spec, descriptor=run.spec.descriptor.model_copy(update={"tables": ("../../x", "blocks")}))
    outcome = await bench.again(spec)()
    assert isinstance(outcome.error, InvalidDescriptor)
    assert "not ../../x" in outcome.error.message
    assert len(await bench.query("select from physical_table_revisions")) == 3


async def hold(bench: Bench, location: Location) -> None:
    """Become the one who may sweep a revision."""
    await bench.execute(
        "update ampd_ray.location_lease set epoch = %s, incarnation = %s where location_id = %s",
        location.epoch, bench.incarnation, location.location_id,
    )  # fmt: skip
