"""The doer of a pass, with extractors and writers in memory."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.errors import (
    ActorLost,
    AmpdError,
    DataFault,
    Fenced,
    OutOfMemory,
    Overlap,
    ProviderUnreachable,
    RowsLost,
    StoreFull,
    WrongChain,
)
from ampd_ray.materialize import perform, state
from tests.fakes.bench import until
from tests.fakes.passes import Faults, Hook, World, nothing

WHOLE = Span(0, 999)
YOUNG_SECS = 1e12  # no file is older, though the clock of a pass starts at 0 here


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "RETRY_SECS", 0.0)
    monkeypatch.setattr(perform, "TICK_SECS", 0.01)


async def shuffle(span: Span) -> None:
    for _ in range(random.Random(span.start).randrange(9)):
        await asyncio.sleep(0)


@pytest.mark.parametrize("partitions", [1, 3])
async def test_every_block_is_extracted_and_appended_once(partitions: int) -> None:
    world = World(on_extract=shuffle)
    units = [Span(start, start + 199) for start in range(0, 1000, 200)]
    assert await world.pass_over(*units, max_partitions=partitions).run() is None
    for spans in (world.extracted, world.appended):
        assert merge(spans) == [WHOLE]
        assert all(a.end < b.start for a, b in pairwise(sorted(spans)))
    assert sorted(world.discarded) == units  # each partition is given back
    assert world.held == 0


@pytest.mark.parametrize("partitions", [1, 3])
async def test_the_rows_on_their_way_stay_within_the_budget(partitions: int) -> None:
    """However slow writers are, and though the first span comes last: the budget, and one span a partition."""
    budget = 200_000
    largest = 0

    async def the_first_comes_last(span: Span) -> None:
        nonlocal largest
        largest = max(largest, len(span) * 1000)
        for _turn in range(50 if span.start % 500 == 0 else 1):
            await asyncio.sleep(0)

    async def slowly(_: Span) -> None:
        for _turn in range(20):
            await asyncio.sleep(0)

    world = World(tasks=64, on_extract=the_first_comes_last, on_append=slowly)
    units = [Span(start, start + 499) for start in range(0, 3000, 500)]
    machine_knows = 1000.0  # bytes a block: before anything was measured, tasks are small, but there may be 64
    pass_ = world.pass_over(*units, max_partitions=partitions, memory_bytes=budget, bytes_per_block=machine_knows)
    assert await pass_.run() is None
    assert largest > 16_000
    assert budget // 2 < world.most_held <= budget + partitions * largest
    assert merge(world.appended) == [Span(0, 2999)]


async def test_how_long_blocks_take_decides_how_many_a_task_has() -> None:
    world = World(tasks=1, fetch_secs=0.03, decode_secs=0.02)
    assert await world.pass_over(WHOLE).run() is None
    assert [len(span) for span in sorted(world.extracted)][:4] == [16, 64, 200, 200]


async def test_before_anything_is_measured_the_tasks_are_few_and_small() -> None:
    world = World(tasks=4, block_bytes=1 << 20)
    assert await world.pass_over(WHOLE, memory_bytes=8 << 20).run() is None
    assert world.most_held <= 4 * state.FIRST_TASK_BLOCKS << 20


@pytest.mark.parametrize("error", [None, WrongChain("another chain")])
async def test_it_says_how_many_tasks_it_wants_and_at_its_end_that_it_wants_none(error: AmpdError | None) -> None:
    async def in_time(span: Span) -> None:
        await asyncio.sleep(3 * perform.TICK_SECS)
        if error is not None:
            raise error

    world = World(tasks=64, on_extract=in_time)
    assert await world.pass_over(WHOLE).run() is error
    assert max(world.wanted) > 1
    assert world.wanted[-1] == 0


async def test_what_extractors_lose_is_extracted_again() -> None:
    faults = Faults({0: ActorLost("gone"), 32: OutOfMemory("too much"), 16: ProviderUnreachable("away")})
    world = World(on_extract=faults)
    pass_ = world.pass_over(WHOLE)
    assert await pass_.run() is None
    assert faults.fired == 3
    assert not pass_.replan
    assert merge(world.appended) == [WHOLE]


@pytest.mark.parametrize("no_room", [False, True])
async def test_rows_that_do_not_arrive_are_extracted_again_and_their_writer_keeps_its_partition(no_room: bool) -> None:
    faults = Faults({16: RowsLost("gone", no_room=no_room)})
    world = World(tasks=1, on_append=faults)
    pass_ = world.pass_over(WHOLE)
    assert await pass_.run() is None
    assert faults.fired == 1
    assert not pass_.replan
    again = [span for span in world.extracted if span.start == 16]
    assert len(again) == 2
    assert (len(again[1]) < len(again[0])) is no_room
    assert merge(world.appended) == [WHOLE]
    assert world.discarded == [WHOLE]


async def test_a_lost_writer_costs_its_partition_only() -> None:
    faults = Faults({200: ActorLost("gone")})
    world = World(on_append=faults)
    units = [Span(0, 199), Span(200, 399), Span(400, 599)]
    pass_ = world.pass_over(*units)
    assert await pass_.run() is None
    assert faults.fired == 1
    assert pass_.replan
    assert merge(span for span in world.appended if span.start >= 400 or span.end < 200) == [units[0], units[2]]
    assert sum(len(span) for span in world.appended if 200 <= span.start < 400) < 200
    assert sorted(world.discarded) == units


@pytest.mark.parametrize("error", [Overlap("somebody was faster"), ActorLost("no writer")])
async def test_a_writer_that_cannot_be_had_is_planned_again(error: Overlap) -> None:
    faults = Faults({0: error})
    world = World(on_open=faults)
    pass_ = world.pass_over(Span(0, 99), Span(100, 199))
    assert await pass_.run() is None
    assert pass_.replan
    assert merge(world.appended) == [Span(100, 199)]


@pytest.mark.parametrize("where", ["on_open", "on_append"])
@pytest.mark.parametrize("error", [StoreFull("full"), Fenced("taken")])
async def test_other_errors_of_a_writer_end_the_pass(where: str, error: StoreFull) -> None:
    faults = Faults({0: error})
    world = World()
    setattr(world, where, faults)
    assert await world.pass_over(Span(0, 99), Span(100, 199)).run() is error
    assert faults.fired == 1


async def test_a_fault_that_stays_ends_the_pass_and_gives_everything_back() -> None:
    class Always:
        fired = 0

        async def __call__(self, span: Span) -> None:
            if span.start == 16:
                self.fired += 1
                raise DataFault("block 16 contradicts itself", block=16)
            await asyncio.sleep(0)

    world = World(on_extract=(always := Always()))
    error = await world.pass_over(WHOLE).run()
    assert isinstance(error, DataFault)
    assert always.fired == 2
    assert world.discarded == [WHOLE]


@pytest.mark.parametrize("where", ["on_open", "on_extract", "on_append"])
async def test_an_exception_that_nobody_foresaw_ends_the_pass_and_tells_no_secret(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    faults = Faults({0: ZeroDivisionError("postgres://user:password@host/")})
    world = World()
    setattr(world, where, faults)
    error = await world.pass_over(Span(0, 99)).run()
    assert error is not None
    assert (error.code, "ZeroDivisionError" in str(error), "password" in str(error)) == ("PANIC", True, False)
    assert [record.message for record in caplog.records] == ["unexpected failure in a pass"]


async def test_a_stop_drops_extractions_and_flushes_each_partition() -> None:
    running = asyncio.Event()

    async def hold_the_third(span: Span) -> None:
        if span.start % 100 >= 32:
            running.set()
            await asyncio.Event().wait()

    world = World(on_extract=hold_the_third)
    pass_ = world.pass_over(Span(0, 99), Span(100, 199), Span(200, 299), max_partitions=2)
    task = asyncio.create_task(pass_.run())
    await running.wait()
    pass_.stop(1.0)
    assert await task is None
    assert world.flushes == [(Span(0, 99), "stop"), (Span(100, 199), "stop")]
    assert world.cancelled > 0
    assert sorted(world.discarded) == [Span(0, 99), Span(100, 199)]  # the third unit was never begun
    assert not pass_.cut_short


async def never(_: Span) -> None:
    await asyncio.Event().wait()


async def after_the_first(span: Span) -> None:
    if span.start % 100:
        await never(span)


@pytest.mark.parametrize(("on_extract", "cut_short"), [(after_the_first, True), (never, False)])
async def test_a_stop_waits_no_longer_than_it_was_told(on_extract: Hook, cut_short: bool) -> None:
    world = World(on_extract=on_extract, on_flush=never)
    pass_ = world.pass_over(WHOLE, flush_secs=YOUNG_SECS)
    task = asyncio.create_task(pass_.run())
    await until(lambda: world.held and (world.appended or not cut_short))
    pass_.stop(0.01)
    assert await asyncio.wait_for(task, 5.0) is None
    assert world.flushes == [(WHOLE, "stop")]
    assert world.discarded == [WHOLE]
    assert pass_.cut_short is cut_short


@pytest.mark.parametrize("error", [ActorLost("gone"), StoreFull("full")])
@pytest.mark.parametrize(("on_extract", "cut_short"), [(after_the_first, True), (never, False)])
async def test_a_writer_that_fails_a_stop_cuts_it_short_if_it_held_rows(
    on_extract: Hook, cut_short: bool, error: ActorLost
) -> None:
    world = World(on_extract=on_extract, on_flush=Faults({0: error}))
    pass_ = world.pass_over(WHOLE, flush_secs=YOUNG_SECS)
    task = asyncio.create_task(pass_.run())
    await until(lambda: world.held and (world.appended or not cut_short))
    pass_.stop(5.0)
    assert await task is (error if isinstance(error, StoreFull) else None)
    assert pass_.cut_short is cut_short


@pytest.mark.parametrize("error", [ActorLost("gone"), StoreFull("full")])
async def test_so_does_one_whose_append_is_the_first_to_notice(error: ActorLost) -> None:
    flushing = asyncio.Event()

    async def fail_once_it_flushes(span: Span) -> None:
        if span.start:
            await flushing.wait()
            raise error

    async def flush(span: Span) -> None:
        flushing.set()
        await never(span)

    world = World(tasks=1, on_append=fail_once_it_flushes, on_flush=flush)
    pass_ = world.pass_over(WHOLE, flush_secs=YOUNG_SECS)
    task = asyncio.create_task(pass_.run())
    await until(lambda: len(world.extracted) > 1)
    pass_.stop(5.0)
    assert await task is (error if isinstance(error, StoreFull) else None)
    assert pass_.cut_short


async def test_a_stop_that_one_partition_fails_is_cut_short_by_the_rows_of_another() -> None:
    async def only_in_the_second(span: Span) -> None:
        if span.start < 100:
            await never(span)

    async def full(span: Span) -> None:
        if span.start >= 100:
            await never(span)
        raise StoreFull("full")

    world = World(on_extract=only_in_the_second, on_flush=full, on_append=after_the_first)
    pass_ = world.pass_over(Span(0, 99), Span(100, 199), max_partitions=2, flush_secs=YOUNG_SECS)
    task = asyncio.create_task(pass_.run())
    await until(lambda: world.appended)
    pass_.stop(5.0)
    assert isinstance(await task, StoreFull)
    assert pass_.cut_short


@pytest.mark.parametrize("stopped", [True, False])
async def test_a_stop_that_is_cancelled_is_cut_short(stopped: bool) -> None:
    """As by the loss of the leases; without a stop nobody waits for what the pass holds."""
    world = World(on_extract=after_the_first, on_flush=never)
    pass_ = world.pass_over(WHOLE, flush_secs=YOUNG_SECS)
    task = asyncio.create_task(pass_.run())
    await until(lambda: world.appended)
    if stopped:
        pass_.stop(5.0)
        await until(lambda: world.flushes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pass_.cut_short is stopped


async def test_a_writer_that_was_lost_before_the_stop_does_not_cut_it_short() -> None:
    world = World(on_extract=after_the_first, on_append=Faults({0: ActorLost("gone")}))
    pass_ = world.pass_over(Span(0, 99), Span(100, 199), flush_secs=YOUNG_SECS)
    task = asyncio.create_task(pass_.run())
    await until(lambda: world.discarded)
    await until(lambda: world.appended)
    pass_.stop(5.0)
    assert await task is None
    assert (pass_.replan, pass_.cut_short) == (True, False)


async def test_a_writer_that_a_commit_holds_does_not_hold_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its discard waits for the same turn as the commit."""
    monkeypatch.setattr(perform, "DISCARD_SECS", 0.01)

    async def never(_: Span) -> None:
        await asyncio.Event().wait()

    world = World(on_extract=never, on_flush=never, on_discard=never)
    pass_ = world.pass_over(WHOLE)
    task = asyncio.create_task(pass_.run())
    await until(lambda: world.held)
    pass_.stop(0.01)
    assert await asyncio.wait_for(task, 5.0) is None
    assert world.discarded == [WHOLE]


async def test_rows_that_arrive_with_the_stop_do_no_harm() -> None:
    arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def hold(span: Span) -> None:
        if span.start == 16:
            await asyncio.shield(arrived)

    world = World(on_extract=hold)
    pass_ = world.pass_over(Span(0, 99), Span(100, 199), max_partitions=2)
    task = asyncio.create_task(pass_.run())
    await until(lambda: len(world.appended) >= 3)
    arrived.set_result(None)
    pass_.stop(1.0)
    assert await task is None


async def test_old_files_are_flushed_though_nothing_arrives() -> None:
    flushed = asyncio.Event()

    async def hold_the_second(span: Span) -> None:
        if span.start == 16:
            await flushed.wait()

    async def note(_: Span) -> None:
        flushed.set()

    world = World(on_extract=hold_the_second, on_flush=note)
    assert await world.pass_over(Span(0, 99), flush_secs=0.02).run() is None
    assert world.flushes[0] == (Span(0, 99), "age")


async def test_a_pass_that_is_cancelled_twice_gives_its_partitions_back() -> None:
    """What is not given back counts as its writer's load for as long as that lives."""
    begun, discarding, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def forever(_: Span) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def hold(_: Span) -> None:
        discarding.set()
        await go_on.wait()

    world = World(on_extract=forever, on_discard=hold)
    task = asyncio.create_task(world.pass_over(WHOLE).run())
    await begun.wait()
    task.cancel()
    task.cancel()
    await discarding.wait()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.discarded == [WHOLE]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("turns", range(12))
async def test_whenever_a_pass_is_cancelled_again_nothing_is_kept(turns: int) -> None:
    async def forever(_: Span) -> None:
        await asyncio.Event().wait()

    world = World(on_extract=forever, on_discard=nothing)
    task = asyncio.create_task(world.pass_over(Span(0, 99), Span(100, 199), max_partitions=2).run())
    await until(lambda: world.held)
    task.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(world.discarded) == [Span(0, 99), Span(100, 199)]
    assert world.held == 0


async def test_cancelling_a_pass_leaves_nothing_running() -> None:
    begun = asyncio.Event()

    async def forever(_: Span) -> None:
        begun.set()
        await asyncio.Event().wait()

    world = World(on_extract=forever)
    task = asyncio.create_task(world.pass_over(WHOLE).run())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.discarded == [WHOLE]
    assert world.held == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
