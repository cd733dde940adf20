"""What is done on a machine that is about to go: when, what is handed back, and that no block is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, Take
from ampd_ray.datasets.evm.schemas import TABLES
from ampd_ray.errors import HandedBack
from ampd_ray.materialize import events
from ampd_ray.materialize.extract import Extractor
from ampd_ray.materialize.leaving import UNHURRIED_SECS, Leave
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.state import JobState, Limits
from ampd_ray.materialize.types import RangeTask
from ampd_ray.providers.evm_rpc import EvmRpcSource
from ampd_ray.providers.stats import SourceStats
from tests.fakes.bench import until
from tests.fakes.devnet import devnet
from tests.fakes.local_work import never
from tests.fakes.passes import World
from tests.fakes.providers import all_of, provider

AT_ONCE = Leave.within(0.0)
LATER = Leave(ask_no_more=0.0, hand_back=3600.0, commit=3600.0, gone=3600.0)


@given(st.floats(0.0, 1e6))
def test_things_are_done_in_their_order_and_before_the_machine_goes(secs: float) -> None:
    leave = Leave.within(secs)
    assert 0.0 <= leave.ask_no_more <= leave.hand_back <= leave.gone == secs
    assert 0.0 <= leave.commit <= leave.gone
    assert secs < 1e-3 or (leave.hand_back < secs and leave.commit < secs)


def test_the_notice_of_a_cloud_leaves_time_for_all_of_it() -> None:
    assert Leave.within(120.0) == Leave(ask_no_more=100.0, hand_back=110.0, commit=100.0, gone=120.0, ends=10.0)
    assert Leave.within(30.0) == Leave(ask_no_more=10.0, hand_back=20.0, commit=15.0, gone=30.0, ends=10.0)
    assert Leave.within(None) == Leave.within(UNHURRIED_SECS)


# -- an extractor -------------------------------------------------------------------------------------------------


class Drop:
    """A source whose blocks come one for each ``let``."""

    chain = 1
    held = full = False

    def __init__(self, blocks: list[BlockAndReceipts]) -> None:
        self.blocks = blocks
        self.asked = 0
        self._lets = asyncio.Semaphore(0)

    def let(self, blocks: int) -> None:
        for _ in range(blocks):
            self._lets.release()

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def stats(self) -> SourceStats:
        return SourceStats()

    def use(self, share: float) -> None:
        """There is no limit."""

    async def fetch(
        self, span: Span, take: Take | None = None, go_on: Callable[[], bool] | None = None
    ) -> AsyncGenerator[BlockAndReceipts]:
        for block in self.blocks[span.start : span.end + 1]:
            if go_on is not None and not go_on():
                return
            self.asked += 1
            await self._lets.acquire()
            yield block


@pytest.fixture(scope="module")
def blocks() -> list[BlockAndReceipts]:
    async def read(url: str) -> list[BlockAndReceipts]:
        source = EvmRpcSource(provider(url))
        try:
            await source.start()
            return await all_of(source, Span(0, 9))
        finally:
            await source.close()

    with devnet(10) as chain:
        return asyncio.run(read(chain.url))


def task(start: int = 0, end: int = 9) -> RangeTask:
    return RangeTask(1, 0, Span(start, end), TABLES, "test_1", "test")


async def test_what_is_there_is_handed_back_at_a_block_boundary(blocks: list[BlockAndReceipts]) -> None:
    source = Drop(blocks)
    extractor = Extractor(lambda provider, network: source)
    working = asyncio.create_task(extractor.extract(task()))
    source.let(4)
    await until(lambda: source.asked == 5)
    extractor.leave(AT_ONCE)
    summary, extract = await working
    assert summary.span == extract.span == Span(0, 3)
    assert summary.rows["blocks"] == extract.tables["blocks"].num_rows == len(extract.links) == 4
    with pytest.raises(HandedBack):
        await extractor.extract(task(4))


async def test_what_was_asked_for_is_waited_for_and_nothing_more_is_asked(blocks: list[BlockAndReceipts]) -> None:
    source = Drop(blocks)
    extractor = Extractor(lambda provider, network: source)
    working = asyncio.create_task(extractor.extract(task()))
    await until(lambda: source.asked == 1)
    extractor.leave(LATER)
    source.let(10)
    summary, _ = await working
    assert (summary.span, source.asked) == (Span(0, 0), 1)


async def test_a_notice_that_comes_again_with_less_time_holds(blocks: list[BlockAndReceipts]) -> None:
    source = Drop(blocks)
    extractor = Extractor(lambda provider, network: source)
    working = asyncio.create_task(extractor.extract(task()))
    source.let(2)
    await until(lambda: source.asked == 3)
    for leave in (LATER, AT_ONCE, LATER):
        extractor.leave(leave)
    summary, _ = await working
    assert summary.span == Span(0, 1)


async def test_a_task_that_ends_in_time_is_whole_though_there_was_a_notice(blocks: list[BlockAndReceipts]) -> None:
    source = Drop(blocks)
    extractor = Extractor(lambda provider, network: source)
    working = asyncio.create_task(extractor.extract(task()))
    await until(lambda: source.asked == 1)
    extractor.leave(Leave.within(3600.0))
    source.let(10)
    summary, _ = await working
    assert summary.span == Span(0, 9)


# -- the decisions of a pass --------------------------------------------------------------------------------------


def begun(*, tasks: int = 2) -> JobState:
    machine = JobState([Unit(Span(0, 99), TABLES)], Limits(max_tasks=tasks))
    machine.start()
    machine.on(events.PartitionOpened(0))
    return machine


def test_the_rest_of_a_task_that_is_handed_back_is_extracted_before_later_ones() -> None:
    machine = begun()
    rest = events.Extract(0, Span(10, 15))
    assert machine.on(events.TaskHandedBack(0, Span(0, 15), Span(0, 9), 1000)) == [events.Append(0, Span(0, 9)), rest]
    assert machine.on(events.TaskAppended(0, (Span(0, 9),))) == []
    assert (machine.bytes_per_block, machine.secs_per_block) == (100.0, None)
    machine.validate()


def test_a_task_of_which_nothing_is_done_is_given_to_another_and_never_counts_as_lost() -> None:
    machine = begun()
    for _ in range(50):
        assert machine.on(events.TaskHandedBack(0, Span(0, 15))) == [events.Extract(0, Span(0, 15))]
        machine.validate()


def test_a_writer_that_leaves_ends_its_partition_once_what_was_begun_is_appended() -> None:
    machine = begun()
    assert machine.on(events.WriterLeaves(0)) == []
    machine.on(events.TaskExtracted(0, Span(16, 31), 1))
    missing = Span(4, 15)  # without it nothing that comes after it could be committed
    assert machine.on(events.TaskHandedBack(0, Span(0, 15), Span(0, 3), 1)) == [
        events.Append(0, Span(0, 3)),
        events.Extract(0, missing),
    ]
    assert machine.on(events.TaskAppended(0, (Span(0, 3),))) == []
    machine.on(events.TaskExtracted(0, missing, 1))
    assert machine.on(events.TaskAppended(0, (missing,))) == []
    assert machine.on(events.TaskAppended(0, (Span(16, 31),))) == [events.Flush(0, "leave")]
    assert machine.on(events.WriterLeaves(0, now=True)) == []
    assert machine.on(events.PartitionFinished(0)) == [events.Finish()]


def test_a_writer_that_has_to_commit_now_waits_for_no_task() -> None:
    machine = begun()
    machine.on(events.WriterLeaves(0))
    assert machine.on(events.WriterLeaves(0, now=True)) == [events.Flush(0, "leave")]
    assert machine.on(events.TaskLost(0, Span(0, 15))) == []


# -- a pass -------------------------------------------------------------------------------------------------------


async def test_a_pass_whose_tasks_are_handed_back_appends_each_block_once() -> None:
    def little(span: Span) -> Span | None:
        return Span(span.start, span.start + len(span) // 2 - 1) if len(span) > 1 else span

    world = World(done=little)
    pass_ = world.pass_over(Span(0, 199))
    assert await pass_.run() is None
    assert merge(world.appended) == [Span(0, 199)]
    assert all(a.end < b.start for a, b in pairwise(sorted(world.extracted)))
    assert (world.held, pass_.replan) == (0, False)


async def test_a_pass_whose_writer_leaves_ends_without_losing_what_was_begun() -> None:
    told = asyncio.Event()

    async def notice(span: Span) -> Leave:
        await told.wait()
        return Leave.within(3600.0)

    async def tell(span: Span) -> None:
        if span.start >= 32:
            told.set()

    world = World(tasks=4, notice=notice, on_append=tell)
    pass_ = world.pass_over(Span(0, 9_999))
    assert await pass_.run() is None
    assert world.flushes == [(Span(0, 9_999), "stop")]  # to a writer that is all the same
    assert world.discarded == [Span(0, 9_999)]
    assert merge(world.extracted) == merge(world.appended)
    assert 32 <= sum(map(len, world.appended)) < 10_000
    assert (pass_.replan, world.cancelled) == (False, 0)


async def test_a_writer_that_cannot_commit_before_its_machine_goes_is_a_lost_one() -> None:
    async def notice(_: Span) -> Leave:
        return Leave(0.0, 0.0, commit=0.0, gone=0.05)

    async def without_end(_: Span) -> None:
        await asyncio.Event().wait()

    world = World(notice=notice, on_flush=without_end, on_extract=without_end)
    pass_ = world.pass_over(Span(0, 99))
    assert await asyncio.wait_for(pass_.run(), 10) is None
    assert (pass_.replan, world.discarded) == (True, [Span(0, 99)])
    assert world.cancelled == 4


async def test_the_other_partitions_of_a_pass_go_on_when_a_writer_leaves() -> None:
    async def notice(span: Span) -> Leave:
        return Leave.within(3600.0) if span.start == 0 else await never()

    world = World(notice=notice)
    units = [Span(0, 999), Span(1000, 1999)]
    assert await world.pass_over(*units, max_partitions=2).run() is None
    assert merge(span for span in world.appended if span.start >= 1000) == [units[1]]
    assert sum(len(span) for span in world.appended if span.start < 1000) < 1000
