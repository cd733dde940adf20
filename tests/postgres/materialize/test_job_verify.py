"""Jobs that verify: what does not hash to its header is never written (``spec/data.md`` 9.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.materialize.types import Outcome, WriterOptions
from ampd_ray.metadb.connection import Database
from tests.fakes.bench import Bench, failure
from tests.fakes.devnet import Devnet
from tests.fakes.faulty_rpc import FaultyRpc

FORGED = 7


@pytest.fixture
async def forger(devnet: Devnet) -> AsyncIterator[FaultyRpc]:
    """A node that says of the first transaction of block 7 that it moved another value."""

    def forge(block: Any) -> Any:
        if block["number"] == hex(FORGED) and isinstance(block["transactions"][0], dict):
            first = block["transactions"][0]
            block["transactions"][0] = {**first, "value": hex(int(first["value"], 16) + 1)}
        return block

    async with FaultyRpc(devnet.chain) as node:
        node.alter("eth_getBlockByNumber", forge)
        yield node


@pytest.fixture
async def deceived(db: Database, tmp_path: Path, devnet: Devnet, forger: FaultyRpc) -> AsyncIterator[Bench]:
    made = Bench(db, tmp_path, devnet, urls={"devnet": forger.url})
    yield made
    await made.close()


async def marks(bench: Bench) -> list[tuple[int, str]]:
    """The first block of each segment, and how it is marked; all tables alike."""
    rows = await bench.query("select distinct lower(blocks) as first, verified from ampd_ray.segment order by 1")
    return [(row.first, row.verified) for row in rows]


@pytest.mark.parametrize(("level", "mark"), [(None, "roots"), ("full", "full")])
async def test_a_chain_that_verifies_is_written_and_marked(bench: Bench, level: str | None, mark: str) -> None:
    await bench.complete(end_block="60", verify=True, verify_level=level)
    await bench.assert_exactly_once(0, 60)
    assert await marks(bench) == [(0, mark)]


async def test_a_level_without_verification_means_nothing(bench: Bench) -> None:
    await bench.complete(end_block="10", verify_level="full")
    assert await marks(bench) == [(0, "none")]


@pytest.mark.parametrize("tables", [None, ("blocks",)])
async def test_a_forged_field_stops_the_job_before_anything_is_written(
    deceived: Bench, forger: FaultyRpc, tables: tuple[str, ...] | None
) -> None:
    """Even where the forged table is not asked for: the block is not to be trusted."""
    deceived.settings["quarantine"] = False
    run = await deceived.job(end_block="10", verify=True, tables=tables)
    outcome = await run()
    assert forger.fired["eth_getBlockByNumber"] > 0
    assert outcome.outcome is Outcome.FAILED
    assert outcome.error is not None
    facts = outcome.error.details
    assert (facts["step"], facts["cause"], facts["block"], facts["provider"]) == (
        "PARTITION_TASK",
        "DATA_FAULT",
        FORGED,
        "devnet",
    )
    assert outcome.error.retryable  # another provider may tell the truth
    assert f"block {FORGED}: transaction" in str(outcome.error)
    assert len([span for span in run.extractors.spans if FORGED in span]) == 2  # asked again, once
    assert await deceived.query("select 1 from file_metadata") == []
    assert await deceived.objects() == set()
    assert deceived.staged() == []


async def test_nobody_notices_without_verification(deceived: Bench) -> None:
    await deceived.complete(end_block="10")
    assert await marks(deceived) == [(0, "none")]


@pytest.fixture
async def rollup(db: Database, tmp_path: Path, devnet: Devnet) -> AsyncIterator[Bench]:
    """A node with transactions of a type in block 7 whose envelope nobody has told us."""

    def strange(answer: Any) -> Any:
        if isinstance(answer, dict) and answer["number"] == hex(FORGED):
            transactions = [{**each, "type": "0x6a"} for each in answer["transactions"]]
            return {**answer, "transactions": transactions}
        if isinstance(answer, list) and answer and answer[0]["blockNumber"] == hex(FORGED):
            return [{**each, "type": "0x6a"} for each in answer]
        return answer

    async with FaultyRpc(devnet.chain) as node:
        node.alter("eth_getBlockByNumber", strange)
        node.alter("eth_getBlockReceipts", strange)
        made = Bench(db, tmp_path, devnet, urls={"devnet": node.url}, options=WriterOptions(segment_blocks=20))
        yield made
        await made.close()


@pytest.mark.parametrize("level", [None, "full"])
async def test_what_can_only_be_verified_in_part_marks_its_segment(rollup: Bench, level: str | None) -> None:
    await rollup.complete(end_block="60", verify=True, verify_level=level)
    whole = level or "roots"
    assert await marks(rollup) == [(0, "partial"), (20, whole), (40, whole), (60, whole)]


async def test_or_ends_the_job_at_once_where_that_is_wanted(rollup: Bench) -> None:
    rollup.settings["wholly"] = True
    facts = failure(await (await rollup.job(end_block="60", verify=True))())
    assert (facts["cause"], facts["block"], facts["retryable"]) == ("UNVERIFIABLE", FORGED, False)
