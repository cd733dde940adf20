"""Jobs at the head: they wait for blocks, follow new ones, bear with their provider, and switch branches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.errors import BlockUnavailable, ProviderRefused, ProviderUnreachable, RateLimited
from ampd_ray.materialize import heads
from ampd_ray.materialize.types import JobOutcome, Outcome
from ampd_ray.metadb import progress
from ampd_ray.metadb.connection import Database
from tests.fakes.bench import Bench, Run, until
from tests.fakes.devnet import Devnet
from tests.fakes.heads import ScriptedHeads, head

DONE = JobOutcome(Outcome.COMPLETED)
STOPPED = JobOutcome(Outcome.STOPPED)


@pytest.fixture
async def growing(db: Database, tmp_path: Path, devnet_server: Callable[..., Devnet]) -> AsyncIterator[Bench]:
    """A bench with a devnet of its own, at block 20, whose blocks are final after 5 more."""
    made = Bench(db, tmp_path, devnet_server(20, finality=5))
    yield made
    await made.close()


async def follows(bench: Bench) -> bool:
    """True if the canonical chain of every table ends in the devnet's head."""
    tip = bench.devnet.chain.head
    for table in ("blocks", "transactions", "logs"):
        chain = await bench.canonical(table)
        if not chain or (chain[-1].range.end, chain[-1].range.hash) != (tip.number, tip.hash):
            return False
    return True


async def stopped(run: Run, running: asyncio.Task[JobOutcome]) -> None:
    await run.job.stop(5.0)
    assert await running == STOPPED


async def test_an_end_beyond_the_head_is_waited_for(growing: Bench) -> None:
    run = await growing.job(end_block="30")
    running = asyncio.create_task(run())
    await until(lambda: follows(growing))
    await until(lambda: run.job.meter.phase == "waiting")
    assert not running.done()
    growing.devnet.mine(15)
    assert await running == DONE
    await growing.assert_exactly_once(0, 30)
    assert (await growing.spans())[-1][1] == 30


async def test_a_start_beyond_the_head_is_waited_for(growing: Bench) -> None:
    growing.manifest = evm_rpc_manifest("devnet", 25)
    run = await growing.job(end_block="27")
    running = asyncio.create_task(run())
    await until(lambda: run.job.meter.phase == "waiting")
    growing.devnet.mine(10)
    assert await running == DONE
    await growing.assert_exactly_once(25, 27)


async def test_a_continuous_job_commits_each_block_as_it_comes(growing: Bench) -> None:
    run = await growing.job()
    running = asyncio.create_task(run())
    await until(lambda: follows(growing))
    for _ in range(5):
        growing.devnet.mine()
        await until(lambda: follows(growing))
    await stopped(run, running)
    assert await growing.spans() == [(0, 15), (16, 20), *((number, number) for number in range(21, 26))]
    await growing.assert_exactly_once(0, 25)


@pytest.mark.parametrize("depth", [1, 3])
async def test_a_reorg_is_followed_when_the_other_branch_grows(growing: Bench, depth: int) -> None:
    run = await growing.job()
    running = asyncio.create_task(run())
    await until(lambda: follows(growing))
    for _ in range(4):
        growing.devnet.mine()
        await until(lambda: follows(growing))  # so that every block is a file
    orphans = [growing.devnet.chain.block(number) for number in range(25 - depth, 25)]
    growing.devnet.reorg(depth)
    growing.devnet.mine()
    await until(lambda: follows(growing))
    await stopped(run, running)
    await growing.assert_exactly_once(0, 25)
    registered = {segment.range.hash for segment in await growing.segments()}
    assert {block.hash for block in orphans if block} <= registered  # a repair leaves what it replaces


@pytest.mark.parametrize("depth", [1, 3, 5])
async def test_a_reorg_without_a_higher_block_is_seen_too(growing: Bench, depth: int) -> None:
    """The head is as high as before, with another hash; blocks 16 to 20 are one file, so 5 reach over its border."""
    run = await growing.job()
    running = asyncio.create_task(run())
    await until(lambda: follows(growing))
    growing.devnet.mine()
    await until(lambda: follows(growing))
    growing.devnet.reorg(depth)
    await until(lambda: follows(growing))
    await stopped(run, running)
    await growing.assert_exactly_once(0, 21)


async def test_reorg_upon_reorg(growing: Bench) -> None:
    run = await growing.job(max_writers=2)
    running = asyncio.create_task(run())
    for depth, more in ((1, 1), (2, 3), (4, 0), (3, 1), (1, 0), (2, 1)):
        growing.devnet.reorg(depth)
        if more:
            growing.devnet.mine(more)
    await until(lambda: follows(growing))
    await stopped(run, running)
    await growing.assert_exactly_once(0, growing.devnet.chain.head.number)


@pytest.mark.parametrize("depth", [1, 3])
async def test_a_branch_that_comes_back_is_followed_again(growing: Bench, depth: int) -> None:
    """At equal height, and once more with growth; what is written again has a name of its own."""
    run = await growing.job()
    running = asyncio.create_task(run())
    await until(lambda: follows(growing))
    for _ in range(4):
        growing.devnet.mine()
        await until(lambda: follows(growing))  # so that every block is a file
    first = growing.devnet.chain.head
    growing.devnet.reorg(depth)
    await until(lambda: follows(growing))
    second = growing.devnet.chain.head
    for branch in (first, second, first):
        growing.devnet.switch(branch.hash)
        await until(lambda: follows(growing))
    growing.devnet.mine()
    await until(lambda: follows(growing))
    growing.devnet.switch(second.hash)
    growing.devnet.mine(2)
    await until(lambda: follows(growing))
    passes = len(run.writers.partitions)
    await growing.assert_exactly_once(0, growing.devnet.chain.head.number)
    await stopped(run, running)
    assert len(run.writers.partitions) == passes < 40  # and then there is nothing left to do


async def test_a_job_with_an_end_completes_on_a_branch_that_came_back(growing: Bench) -> None:
    run = await growing.job(end_block="24")
    running = asyncio.create_task(run())
    growing.devnet.mine()
    await until(lambda: follows(growing))
    first = growing.devnet.chain.head
    growing.devnet.reorg(1)
    await until(lambda: follows(growing))
    growing.devnet.switch(first.hash)
    growing.devnet.mine(5)
    assert await asyncio.wait_for(running, 20.0) == DONE
    await growing.assert_exactly_once(0, 24)


async def test_one_answer_from_another_branch_is_not_believed(bench: Bench) -> None:
    """A lagging node behind a load balancer: at the next poll all is as before, and nothing is fetched again."""
    tip = bench.devnet.chain.block(120)
    assert tip is not None
    real = head(120, tip.hash)
    scripted = ScriptedHeads(*[real] * 3, head(120, b"?" * 32), *[real] * 3)
    bench.settings["open_source"] = lambda provider, network: scripted
    run = await bench.job()
    running = asyncio.create_task(run())
    await until(lambda: scripted.polls > 9)
    await stopped(run, running)
    assert await bench.spans() == [(0, 120)]
    assert len(run.writers.partitions) == 1


async def test_a_head_that_goes_back_is_waited_out(bench: Bench) -> None:
    tip = bench.devnet.chain.block(120)
    assert tip is not None
    scripted = ScriptedHeads(*[head(120, tip.hash)] * 2, *[head(90, b"?" * 32)] * 5, head(120, tip.hash))
    bench.settings["open_source"] = lambda provider, network: scripted
    run = await bench.job()
    running = asyncio.create_task(run())
    await until(lambda: scripted.polls > 9)
    await stopped(run, running)
    assert await bench.spans() == [(0, 120)]


async def test_a_provider_that_does_not_serve_its_own_head_is_asked_again_but_nothing_is_written_twice(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ampd_ray.materialize")
    tip = bench.devnet.chain.block(120)
    assert tip is not None
    scripted = ScriptedHeads(*[head(120, b"?" * 32)] * 6, head(120, tip.hash))
    bench.settings["open_source"] = lambda provider, network: scripted
    run = await bench.job(end_block="latest")
    assert await run() == DONE
    assert sum("as they were" in record.message for record in caplog.records) == len(run.writers.partitions) - 1 > 1
    assert await bench.spans() == [(0, 120)]
    assert len(await bench.objects()) == 3
    await bench.assert_exactly_once(0, 120)


@pytest.mark.parametrize(("end_block", "last"), [("latest", 20), ("-5", 15), ("30", 30)])
async def test_one_absurd_answer_is_nobodys_end_and_sets_nothing_aside(
    growing: Bench, end_block: str, last: int
) -> None:
    scripted = ScriptedHeads(head(2**50, b"!" * 32), source=growing.source("devnet", "devnet"))
    growing.settings["open_source"] = lambda provider, network: scripted
    run = await growing.job(end_block=end_block)
    running = asyncio.create_task(run())
    await until(growing.spans)
    growing.devnet.mine(15)
    assert await asyncio.wait_for(running, 20) == DONE
    await growing.assert_exactly_once(0, last)
    assert (await growing.spans())[-1][1] == last
    assert await growing.query("select block from ampd_ray.quarantine") == []


# -- final blocks only, and none at all -------------------------------------------------------------------------------


async def test_a_dataset_of_final_blocks_stays_below_finality(growing: Bench) -> None:
    growing.manifest = evm_rpc_manifest("devnet", 0, finalized_blocks_only=True)
    run = await growing.job()
    running = asyncio.create_task(run())
    await until(growing.spans)
    growing.devnet.reorg(4)
    growing.devnet.mine(2)
    await until(lambda: tip_is(growing, 17))
    await stopped(run, running)
    await growing.assert_exactly_once(0, 17)


async def tip_is(bench: Bench, number: int) -> bool:
    return (await bench.spans())[-1][1] == number


@pytest.mark.parametrize("end_block", [None, "latest", "-0", "5"])
async def test_a_chain_without_a_block_is_waited_for(growing: Bench, end_block: str | None) -> None:
    empty = BlockUnavailable("null")
    scripted = ScriptedHeads(*[empty] * 4, source=growing.source("devnet", "devnet"))
    growing.settings["open_source"] = lambda provider, network: scripted
    run = await growing.job(end_block=end_block)
    running = asyncio.create_task(run())
    await until(growing.spans)
    if end_block is None:
        await until(lambda: follows(growing))
        await stopped(run, running)
    else:
        assert await running == DONE
    assert scripted.script == []


# -- a provider in trouble --------------------------------------------------------------------------------------------


async def test_a_provider_that_is_away_is_waited_for_and_complained_about_once_a_minute(
    growing: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ampd_ray.materialize")
    away = [ProviderUnreachable("refused"), RateLimited("too many")] * 20
    scripted = ScriptedHeads(*away, source=growing.source("devnet", "devnet"))
    growing.settings["open_source"] = lambda provider, network: scripted
    growing.settings["poll_secs"] = 0.001
    run = await growing.job(end_block="latest")
    assert await run() == DONE
    assert scripted.script == []
    lines = [record for record in caplog.records if record.name.endswith("patience")]
    warnings = [record.__dict__["cause"] for record in lines if record.levelno == logging.WARNING]
    assert sorted(warnings) == ["RPC_RATE_LIMITED", "RPC_UNREACHABLE"]
    assert [record.__dict__["failures"] for record in lines if record.levelno == logging.INFO] == [40]


async def test_what_a_job_waits_for_is_shown(growing: Bench) -> None:
    scripted = ScriptedHeads(ProviderUnreachable("refused"))
    growing.settings["open_source"] = lambda provider, network: scripted
    run = await growing.job(end_block="latest")
    running = asyncio.create_task(run())

    async def shown() -> bool:
        async with growing.db.connection() as conn:
            found = await progress.read(conn, run.id)
        return found is not None and (found.progress.phase, found.progress.limiting_factor) == ("waiting", "rpc")

    await until(shown)
    await stopped(run, running)


async def test_a_provider_that_refuses_ends_the_job_after_some_tries(growing: Bench) -> None:
    scripted = ScriptedHeads(ProviderRefused("HTTP 401"))
    growing.settings["open_source"] = lambda provider, network: scripted
    outcome = await (await growing.job(end_block="latest"))()
    assert outcome.outcome is Outcome.FAILED
    assert outcome.error is not None
    assert (outcome.error.details["step"], outcome.error.retryable) == ("LATEST_BLOCK", True)
    assert scripted.polls == heads.MAX_REFUSALS
