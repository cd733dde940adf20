"""Jobs that verify: what does not hash to its header is never written (``spec/data.md`` 9.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ampd_ray.materialize.types import Outcome
from ampd_ray.metadb.connection import Database
from tests.fakes.bench import Bench
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


async def test_a_chain_that_verifies_is_written_and_marked(bench: Bench) -> None:
    await bench.complete(end_block="60", verify=True)
    await bench.assert_exactly_once(0, 60)
    marks = await bench.query("select distinct verified from ampd_ray.segment")
    assert [row.verified for row in marks] == ["roots"]


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
    marks = await deceived.query("select distinct verified from ampd_ray.segment")
    assert [row.verified for row in marks] == ["none"]
