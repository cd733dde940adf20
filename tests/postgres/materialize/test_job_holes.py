"""Blocks that a provider has wrong: an honest one fills them, else they are holes that everybody sees (data.md 9.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.chain.ranges import Span, subtract
from ampd_ray.chain.segments import missing
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.errors import NoGoodBlock
from ampd_ray.materialize import state
from ampd_ray.materialize.faults import HOPELESS_BLOCKS
from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb import quarantine
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.bench import Bench, Run, failure
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


async def test_where_hope_ends_older_holes_stay(deceived: Bench, liar: FaultyRpc) -> None:
    """From some block on everything is wrong: that is no reason to ask for the ones before again."""
    run = await deceived.job(end_block="60", verify=True)
    assert await run() == DONE
    await deceived.move(run.id, JobStatus.COMPLETED)
    liar.heal()
    liar.alter("eth_getBlockByNumber", wrong(lambda number: number in BAD or number > 60))
    later = await deceived.job(end_block=str(LAST), verify=True)
    assert failure(await later())["cause"] == NoGoodBlock.code
    assert [each.block for each in await holes(deceived, run)] == list(BAD)


async def test_who_lost_the_lease_sets_nothing_aside(deceived: Bench) -> None:
    run = await deceived.job(end_block=str(LAST), verify=True)

    async def fence(_: Span) -> None:
        await deceived.execute("update ampd_ray.location_lease set epoch = epoch + 1")

    run.extractors.before_extract = fence
    assert (await run()).outcome is Outcome.FENCED
    assert await holes(deceived, run) == []
