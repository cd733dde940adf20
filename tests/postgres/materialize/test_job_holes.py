"""Blocks that a provider has wrong: an honest one fills them, else they are holes that everybody sees (data.md 9.4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.chain.ranges import Span, subtract
from ampd_ray.chain.segments import missing
from ampd_ray.datasets.manifest import TABLES, evm_rpc_manifest
from ampd_ray.errors import JobConflict, NoGoodBlock
from ampd_ray.materialize import state
from ampd_ray.materialize.faults import HOPELESS_BLOCKS
from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb import jobs, progress, quarantine
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.bench import NODE, Bench, Run, failure, until
from tests.fakes.devnet import Devnet
from tests.fakes.faulty_rpc import FaultyRpc

DONE = JobOutcome(Outcome.COMPLETED)
BAD = (3, 40, 41)
LAST = 130


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "RETRY_SECS", 0.001)


def wrong(bad: Callable[[int], bool]) -> Callable[[Any], Any]:
    """Another root than that of its transactions."""

    def change(block: Any) -> Any:
        lies = isinstance(block, dict) and bad(int(block["number"], 16))
        return {**block, "transactionsRoot": "0x" + 64 * "1"} if lies else block

    return change


@pytest.fixture
async def liar(devnet: Devnet) -> AsyncIterator[FaultyRpc]:
    """A node that has a few blocks wrong."""
    async with FaultyRpc(devnet.chain) as node:
        node.alter("eth_getBlockByNumber", wrong(lambda number: number in BAD))
        yield node


@pytest.fixture
async def deceived(db: Database, tmp_path: Path, devnet: Devnet, liar: FaultyRpc) -> AsyncIterator[Bench]:
    made = Bench(db, tmp_path, devnet, urls={"liar": liar.url})
    yield made
    await made.close()


async def holes(bench: Bench, run: Run) -> list[quarantine.Quarantined]:
    async with bench.db.connection() as conn:
        return await quarantine.listed(conn, quarantine.group_of(run.spec.descriptor))


async def assert_all_but(bench: Bench, *blocks: int) -> None:
    wanted = Span(0, LAST)
    for table in TABLES:
        lacking = missing(await bench.segments(table), wanted)
        assert subtract(wanted, lacking) == subtract(wanted, [Span(block, block) for block in blocks]), table
        numbers = set((await bench.rows(table)).column("_block_num").to_pylist())
        assert not numbers & set(blocks), table
    assert bench.staged() == []


async def test_an_honest_provider_fills_what_another_has_wrong(deceived: Bench, liar: FaultyRpc) -> None:
    deceived.urls["honest"] = deceived.devnet.url
    run = await deceived.job(end_block=str(LAST), verify=True)
    assert await run() == DONE
    assert liar.fired["eth_getBlockByNumber"] > 0
    assert await holes(deceived, run) == []
    await deceived.assert_exactly_once(0, LAST)


async def test_what_nobody_has_right_is_a_hole_and_everything_else_is_there(deceived: Bench, liar: FaultyRpc) -> None:
    run = await deceived.job(end_block=str(LAST), verify=True)
    assert await run() == DONE
    assert liar.fired["eth_getBlockByNumber"] > 0
    await assert_all_but(deceived, *BAD)
    found = await holes(deceived, run)
    assert [(each.block, each.provider, each.attempts) for each in found] == [(block, "liar", 1) for block in BAD]
    for each in found:
        (told,) = each.evidence
        assert told["code"] == "DATA_FAULT"
        assert f"block {each.block}" in each.reason == told["message"]


async def test_holes_stay_until_they_are_cleared_and_a_filled_one_leaves_no_trace(
    deceived: Bench, liar: FaultyRpc
) -> None:
    run = await deceived.job(end_block=str(LAST), verify=True)
    assert await run() == DONE
    again = deceived.again(run.spec)
    assert await again() == DONE
    assert again.extractors.spans == []  # nobody asks for them
    async with deceived.db.connection() as conn:
        assert await quarantine.clear(conn, quarantine.group_of(run.spec.descriptor)) == len(BAD)
    assert await deceived.again(run.spec)() == DONE
    assert [each.block for each in await holes(deceived, run)] == list(BAD)  # all that is asked for is bad
    async with deceived.db.connection() as conn:
        await quarantine.clear(conn, quarantine.group_of(run.spec.descriptor))
    liar.heal()
    assert await deceived.again(run.spec)() == DONE
    assert await holes(deceived, run) == []
    await deceived.assert_exactly_once(0, LAST)


async def test_a_pinned_provider_is_the_only_one_that_is_asked(deceived: Bench) -> None:
    deceived.urls["honest"] = deceived.devnet.url
    run = await deceived.job(end_block=str(LAST), verify=True, provider="liar")
    assert await run() == DONE
    assert [each.block for each in await holes(deceived, run)] == list(BAD)


async def test_without_quarantine_a_bad_block_ends_the_job(deceived: Bench) -> None:
    deceived.settings["quarantine"] = False
    run = await deceived.job(end_block=str(LAST), verify=True)
    facts = failure(await run())
    assert facts["cause"] == "DATA_FAULT"
    assert facts["block"] in BAD
    assert await holes(deceived, run) == []


async def test_a_provider_that_has_every_block_wrong_ends_the_job_soon_and_leaves_no_hole(
    deceived: Bench, liar: FaultyRpc
) -> None:
    liar.heal()
    liar.alter("eth_getBlockByNumber", wrong(lambda _: True))
    run = await deceived.job(end_block=str(LAST), verify=True)
    facts = failure(await run())
    assert (facts["step"], facts["cause"], facts["retryable"]) == ("PARTITION_TASK", NoGoodBlock.code, False)
    assert len(run.extractors.spans) < 4 * HOPELESS_BLOCKS
    assert await holes(deceived, run) == []
    assert await deceived.query("select 1 from file_metadata") == []


async def test_so_does_a_job_of_a_few_blocks_all_of_which_are_bad(deceived: Bench) -> None:
    deceived.manifest = evm_rpc_manifest("devnet", 40)
    run = await deceived.job(end_block="41", verify=True)
    facts = failure(await run())
    assert (facts["cause"], facts["retryable"]) == (NoGoodBlock.code, False)
    assert await holes(deceived, run) == []


async def test_where_hope_ends_late_what_was_set_aside_stays_listed(deceived: Bench, liar: FaultyRpc) -> None:
    """From some block on everything is wrong: the job fails, and says so; nothing that is missing is unlisted."""
    run = await deceived.job(end_block="60", verify=True)
    assert await run() == DONE
    await deceived.move(run.id, JobStatus.COMPLETED)
    liar.heal()
    liar.alter("eth_getBlockByNumber", wrong(lambda number: number in BAD or number > 60))
    later = await deceived.job(end_block=str(LAST), verify=True)
    assert failure(await later())["cause"] == NoGoodBlock.code
    found = [each.block for each in await holes(deceived, run)]
    assert set(BAD) < set(found)
    assert all(block in BAD or block > 60 for block in found)


async def test_who_lost_the_lease_sets_nothing_aside(deceived: Bench) -> None:
    run = await deceived.job(end_block=str(LAST), verify=True)

    async def fence(_: Span) -> None:
        await deceived.execute("update ampd_ray.location_lease set epoch = epoch + 1")

    run.extractors.before_extract = fence
    assert (await run()).outcome is Outcome.FENCED
    assert await holes(deceived, run) == []


# -- tables that are filled one after another --------------------------------------------------------------------------


async def lacking(bench: Bench, table: str) -> list[Span]:
    return missing(await bench.segments(table), Span(0, LAST))


async def test_a_run_for_other_tables_leaves_the_holes_of_the_first_listed(deceived: Bench, liar: FaultyRpc) -> None:
    run = await deceived.complete(end_block=str(LAST), verify=True, tables=("blocks", "logs"))
    liar.heal()
    await deceived.complete(end_block=str(LAST), verify=True, tables=("transactions",))
    assert [each.block for each in await holes(deceived, run)] == list(BAD)
    await assert_all_but(deceived, *BAD)


async def test_a_run_that_finds_nothing_but_holes_of_other_tables_has_them_too(deceived: Bench) -> None:
    deceived.manifest = evm_rpc_manifest("devnet", 40)
    run = await deceived.complete(end_block="60", verify=True, tables=("blocks", "logs"))
    await deceived.complete(end_block="41", verify=True, tables=("transactions",))
    assert [each.block for each in await holes(deceived, run)] == [40, 41]


async def test_a_run_without_a_good_block_says_that_the_holes_of_other_tables_stay(
    deceived: Bench, liar: FaultyRpc
) -> None:
    run = await deceived.complete(end_block=str(LAST), verify=True, tables=("blocks", "logs"))
    liar.heal()
    liar.alter("eth_getBlockByNumber", wrong(lambda _: True))
    later = await deceived.job(end_block=str(LAST), verify=True, tables=("transactions",))
    outcome = await later()
    assert failure(outcome)["cause"] == NoGoodBlock.code
    assert "those that are there stay set aside" in str(outcome.error)
    assert {each.block for each in await holes(deceived, run)} > set(BAD)


async def test_holes_are_asked_for_again_for_all_tables_that_lack_them(deceived: Bench, liar: FaultyRpc) -> None:
    run = await deceived.complete(end_block=str(LAST), verify=True)
    await deceived.complete(end_block=str(LAST), verify=True, tables=("transactions",))
    with pytest.raises(JobConflict, match=r"fills transactions only, and blocks, logs of _/devnet lack .* as well"):
        await jobs.retry(deceived.db, run.id, NODE, quarantined=True)
    assert [each.block for each in await holes(deceived, run)] == list(BAD)
    assert await jobs.retry(deceived.db, run.id, NODE, quarantined=False) == 0
    await deceived.move(run.id, JobStatus.RUNNING)
    await deceived.move(run.id, JobStatus.COMPLETED)
    await deceived.complete(end_block=str(LAST), verify=True, tables=("logs", "transactions", "blocks"))
    assert await jobs.retry(deceived.db, run.id, NODE, quarantined=True) == len(BAD)
    liar.heal()
    await deceived.move(run.id, JobStatus.RUNNING)
    assert await deceived.again(run.spec)() == DONE
    assert await holes(deceived, run) == []
    await deceived.assert_exactly_once(0, LAST)


async def test_a_job_of_some_tables_asks_again_where_there_are_no_others(deceived: Bench, liar: FaultyRpc) -> None:
    run = await deceived.complete(end_block=str(LAST), verify=True, tables=("blocks",))
    liar.heal()
    assert await jobs.retry(deceived.db, run.id, NODE, quarantined=True) == len(BAD)
    await deceived.move(run.id, JobStatus.RUNNING)
    assert await deceived.again(run.spec)() == DONE
    assert await lacking(deceived, "blocks") == []


# -- reorgs above a hole ----------------------------------------------------------------------------------------------

HOLE = 10


@pytest.fixture
async def growing(
    db: Database, tmp_path: Path, devnet_server: Callable[..., Devnet]
) -> AsyncIterator[tuple[Bench, FaultyRpc]]:
    """A chain at block 20, one block of which its node has wrong."""
    devnet = devnet_server(20, finality=5)
    async with FaultyRpc(devnet.chain) as node:
        node.alter("eth_getBlockByNumber", wrong(lambda number: number == HOLE))
        made = Bench(db, tmp_path, devnet, urls={"liar": node.url})
        yield made, node
        await made.close()


async def live(bench: Bench, table: str) -> list[tuple[int, int, bytes]]:
    """What a table holds for us, by the flags in Postgres."""
    rows = await bench.query(
        "select lower(s.blocks) as first, upper(s.blocks) - 1 as last, s.end_hash from ampd_ray.segment s "
        "join physical_table_revisions r on r.id = s.location_id join physical_tables t on t.active_revision_id = r.id "
        "where s.canonical and t.table_name = %s order by 1",
        table,
    )
    return [(row.first, row.last, bytes(row.end_hash)) for row in rows]


async def is_the_chain(bench: Bench) -> bool:
    """Every block but the hole is live once, and each file ends in a block of the chain of now."""
    chain = bench.devnet.chain
    for table in TABLES:
        files = await live(bench, table)
        numbers = [number for first, last, _ in files for number in range(first, last + 1)]
        if numbers != [number for number in range(chain.head.number + 1) if number != HOLE]:
            return False
        for _, last, digest in files:
            block = chain.block(last)
            if block is None or block.hash != digest:
                return False
    return True


@pytest.mark.parametrize("depth", [1, 3, 8])
async def test_a_reorg_above_a_hole_is_followed(growing: tuple[Bench, FaultyRpc], depth: int) -> None:
    bench, _ = growing
    run = await bench.job(verify=True)
    running = asyncio.create_task(run())
    await until(lambda: is_the_chain(bench))
    bench.devnet.mine(2)
    await until(lambda: is_the_chain(bench))
    bench.devnet.reorg(depth)
    await until(lambda: is_the_chain(bench))
    bench.devnet.mine(1)
    await until(lambda: is_the_chain(bench))
    await run.job.stop(5.0)
    assert (await running).outcome is Outcome.STOPPED
    assert [each.block for each in await holes(bench, run)] == [HOLE]


async def test_a_hole_that_is_filled_joins_both_sides(growing: tuple[Bench, FaultyRpc]) -> None:
    bench, node = growing
    run = await bench.job(end_block="20", verify=True)
    assert await run() == DONE
    node.heal()
    async with bench.db.connection() as conn:
        await quarantine.clear(conn, quarantine.group_of(run.spec.descriptor))
    assert await bench.again(run.spec)() == DONE
    await bench.assert_exactly_once(0, 20)


async def test_a_dataset_that_begins_at_the_head_is_not_hopeless_after_one_bad_block(
    growing: tuple[Bench, FaultyRpc],
) -> None:
    bench, node = growing
    node.heal()
    node.alter("eth_getBlockByNumber", wrong(lambda number: number == 20))
    bench.manifest = evm_rpc_manifest("devnet", 20)
    run = await bench.job(verify=True)
    running = asyncio.create_task(run())
    await until(lambda: holes(bench, run))
    bench.devnet.mine(1)
    await until(bench.spans)
    await run.job.stop(5.0)
    assert (await running).outcome is Outcome.STOPPED
    assert await bench.spans() == [(21, 21)]


async def test_what_a_run_that_was_cut_off_set_aside_without_any_good_block_is_asked_for_again(
    deceived: Bench, liar: FaultyRpc
) -> None:
    liar.heal()
    liar.alter("eth_getBlockByNumber", wrong(lambda _: True))
    run = await deceived.job(end_block=str(LAST), verify=True)
    running = asyncio.create_task(run())
    await until(lambda: holes(deceived, run))
    running.cancel()
    run.job.cancel()
    await asyncio.wait({running})
    liar.heal()
    assert await deceived.again(run.spec)() == DONE
    await deceived.assert_exactly_once(0, LAST)


async def test_holes_are_neither_done_nor_left_however_often_it_runs(deceived: Bench) -> None:
    run = await deceived.job(end_block=str(LAST), verify=True)
    for each in (run, deceived.again(run.spec)):
        assert await each() == DONE
        async with deceived.db.connection() as conn:
            shown = await progress.read(conn, run.id)
        assert shown is not None
        done, total = shown.progress.blocks_done, shown.progress.blocks_total
        assert (done, total, shown.progress.eta_secs) == (LAST + 1 - len(BAD), LAST + 1, None)
