"""The decisions of a pass, event by event, and as a random walk that never loses or doubles a block."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.errors import ActorLost, AmpdError, DataFault, OutOfMemory, ProviderUnreachable, WrongChain
from ampd_ray.materialize import events, state
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.state import JobState, Limits

TABLES = ("blocks",)


def unit(start: int, end: int) -> Unit:
    return Unit(Span(start, end), TABLES)


def only(kind: type[Any], instructions: list[events.Instruction]) -> list[Any]:
    return [i for i in instructions if isinstance(i, kind)]


def opened(machine: JobState, partition: int = 0) -> list[events.Instruction]:
    return machine.on(events.PartitionOpened(partition))


def test_nothing_is_extracted_before_the_writer_is_there() -> None:
    machine = JobState([unit(0, 99)], Limits())
    assert machine.start() == [events.OpenPartition(0, unit(0, 99))]
    first = opened(machine)[0]
    assert first == events.Extract(0, Span(0, state.FIRST_TASK_BLOCKS - 1))


def test_without_good_leases_nothing_is_handed_out_and_nothing_is_forgotten() -> None:
    machine = JobState([unit(0, 99), unit(200, 299)], Limits(max_tasks=2))
    machine.start()
    assert machine.on(events.LeasesLapsed()) == []
    assert opened(machine) == []
    assert machine.starved == "lease"
    first, second = only(events.Extract, machine.on(events.LeasesRenewed()))
    assert (first.span, second.span) == (Span(0, 15), Span(16, 31))
    machine.on(events.LeasesLapsed())
    assert machine.on(events.TaskExtracted(0, first.span, 1000)) == [events.Append(0, first.span)]
    assert machine.on(events.TaskAppended(0, (first.span,))) == []
    assert machine.on(events.TaskLost(0, second.span)) == []
    machine.validate()
    (again, *_) = only(events.Extract, machine.on(events.LeasesRenewed()))
    assert again.span == second.span


@pytest.mark.parametrize("lost", [events.TaskLost(0, Span(0, 15)), events.TaskHandedBack(0, Span(0, 15))])
def test_what_all_others_wait_for_is_extracted_again_though_fewer_tasks_may_be_under_way_by_now(
    lost: events.Event,
) -> None:
    machine = JobState([unit(0, 399)], Limits(max_tasks=12))
    machine.start()
    later = only(events.Extract, opened(machine))[1:]
    machine.on(events.Tick(1.0, max_tasks=1))  # a Ray node went, with most of the extractors
    for task in later:
        machine.on(events.TaskExtracted(0, task.span, 1000))
    assert machine.on(lost) == [events.Extract(0, Span(0, 15))]
    machine.validate()


def test_a_stop_without_good_leases_commits_what_is_there() -> None:
    machine = JobState([unit(0, 99)], Limits())
    machine.start()
    opened(machine)
    machine.on(events.LeasesLapsed())
    assert machine.on(events.StopAsked()) == [events.Flush(0, "stop")]
    assert machine.on(events.PartitionFinished(0)) == [events.Finish()]


def test_an_empty_plan_is_finished_at_once() -> None:
    assert JobState([], Limits()).start() == [events.Finish()]


def test_tasks_are_handed_out_in_ascending_order_up_to_the_limit() -> None:
    machine = JobState([unit(0, 999)], Limits(max_tasks=3))
    machine.start()
    spans = [i.span for i in only(events.Extract, opened(machine))]
    assert spans[:3] == [Span(0, 15), Span(16, 31), Span(32, 47)]
    assert len(spans) == 3


def after(machine: JobState, span: Span, nbytes: int, secs: float = 0.0) -> events.Extract:
    """The task that is handed out once the only one is done, or its rows are appended."""
    instructions = machine.on(events.TaskExtracted(0, span, nbytes, secs))
    assert instructions[0] == events.Append(0, span)
    task: events.Extract
    (task,) = only(events.Extract, [*instructions, *machine.on(events.TaskAppended(0, (span,)))])
    return task


def test_an_extractor_that_is_done_goes_on_while_its_rows_wait_for_a_slow_one() -> None:
    machine = JobState([unit(0, 99_999)], Limits(max_tasks=2))
    machine.start()
    slow, task = only(events.Extract, opened(machine))
    waiting = 0
    while tasks := only(events.Extract, machine.on(events.TaskExtracted(0, task.span, 1000))):
        (task,) = tasks
        waiting += 1
    assert waiting + 2 == 2 * state.AHEAD, "those done, the last one, and the slow one"
    assert only(events.Extract, machine.on(events.TaskExtracted(0, slow.span, 1000))) == []
    assert len(only(events.Extract, machine.on(events.TaskAppended(0, (slow.span, Span(16, 31)))))) == 2


def test_what_is_slow_is_the_provider_while_rows_wait_for_a_task_and_the_writer_while_they_wait_for_none() -> None:
    machine = JobState([unit(0, 99_999)], Limits(max_tasks=2))
    machine.start()
    slow, task = only(events.Extract, opened(machine))
    while tasks := only(events.Extract, machine.on(events.TaskExtracted(0, task.span, 1000))):
        (task,) = tasks
    assert machine.starved == "rpc"
    machine.on(events.TaskExtracted(0, slow.span, 1000))
    assert machine.starved == "writer"


def test_rows_that_are_many_are_waited_for() -> None:
    machine = JobState([unit(0, 99_999)], Limits(max_tasks=2))
    machine.start()
    _, large = only(events.Extract, opened(machine))
    assert machine.on(events.TaskExtracted(0, large.span, 2 * state.TASK_BYTES)) == [events.Append(0, large.span)]


def test_tasks_grow_with_small_blocks_and_shrink_with_large_ones() -> None:
    machine = JobState([unit(0, 100_000)], Limits(max_tasks=1))
    machine.start()
    opened(machine)
    grown = after(machine, Span(0, 15), 16 * 100)
    assert len(grown.span) == 64
    assert len(after(machine, grown.span, len(grown.span) * (64 << 20)).span) == 1


def test_tasks_take_some_seconds_however_far_away_the_provider_is() -> None:
    machine = JobState([unit(0, 100_000)], Limits(max_tasks=1))
    machine.start()
    opened(machine)
    sizes = []
    span = Span(0, 15)
    for secs_per_block in (0.05, 0.05, 0.05, 5.0, 5.0):
        span = after(machine, span, len(span), secs_per_block * len(span)).span
        sizes.append(len(span))
    assert sizes == [64, 200, 200, state.LEAST_TASK_BLOCKS, state.LEAST_TASK_BLOCKS]


def test_the_next_pass_knows_how_long_blocks_take() -> None:
    first = JobState([unit(0, 15)], Limits(max_tasks=1))
    assert first.secs_per_block is None
    first.start()
    opened(first)
    first.on(events.TaskExtracted(0, Span(0, 15), 16, 0.8))
    assert first.secs_per_block == pytest.approx(0.05)
    later = JobState([unit(0, 9_999)], Limits(max_tasks=4), bytes_per_block=1.0, secs_per_block=first.secs_per_block)
    later.start()
    assert [len(task.span) for task in only(events.Extract, opened(later))] == [200] * 4


def test_the_byte_budget_holds_back_later_spans_but_never_the_lowest() -> None:
    machine = JobState([unit(0, 99_999)], Limits(max_tasks=8, memory_bytes=100), bytes_per_block=10.0)
    machine.start()
    first, *others = only(events.Extract, opened(machine))
    assert first.span.start == 0
    assert others == []
    machine.on(events.TaskExtracted(0, first.span, 10_000))
    assert only(events.Extract, machine.on(events.Tick(1.0, 8))) == []
    assert only(events.Extract, machine.on(events.TaskAppended(0, (first.span,))))


def test_without_a_byte_budget_it_follows_the_tasks_that_there_may_be() -> None:
    assert [Limits(max_tasks=tasks).room >> 20 for tasks in (4, 16, 64)] == [256, 256, 1024]
    assert Limits(max_tasks=64, memory_bytes=100).room == 100
    machine = JobState([unit(0, 99_999)], Limits(max_tasks=64), bytes_per_block=float(state.TASK_BYTES))
    machine.start()
    assert len(only(events.Extract, opened(machine))) == 64, "enough for sixteen extractors, at 16 MiB a task"


def test_it_says_how_many_tasks_it_has_work_for() -> None:
    machine = JobState([unit(0, 9_999)], Limits(max_tasks=2), bytes_per_block=1.0)
    machine.start()
    assert machine.wanted_tasks == 100, "of the smallest ones that are worth while"
    opened(machine)
    assert machine.wanted_tasks > 50
    machine.on(events.LeasesLapsed())
    assert machine.wanted_tasks == 2, "those under way"
    machine.on(events.LeasesRenewed())
    machine.on(events.StopAsked())
    assert machine.wanted_tasks == 2


def test_what_is_left_is_cut_for_all_that_may_be_under_way() -> None:
    machine = JobState([unit(0, 3_999)], Limits(max_tasks=8), bytes_per_block=1.0)
    machine.start()
    tasks = only(events.Extract, opened(machine))
    assert len(tasks) == 8
    sizes = [len(task.span) for task in tasks]
    assert sizes == sorted(sizes, reverse=True)
    assert state.LEAST_TASK_BLOCKS <= min(sizes) < max(sizes) == 500
    last = JobState([unit(0, 150)], Limits(max_tasks=8), bytes_per_block=1.0)
    last.start()
    assert [len(task.span) for task in only(events.Extract, opened(last))] == [100, 51]


def test_a_lost_task_is_extracted_again_before_later_ones() -> None:
    machine = JobState([unit(0, 999)], Limits(max_tasks=2))
    machine.start()
    opened(machine)
    (again,) = only(events.Extract, machine.on(events.TaskLost(0, Span(0, 15))))
    assert again.span == Span(0, 15)


def test_a_task_that_ran_out_of_memory_is_halved() -> None:
    machine = JobState([unit(0, 999)], Limits(max_tasks=1))
    machine.start()
    opened(machine)
    (half,) = only(events.Extract, machine.on(events.TaskLost(0, Span(0, 15), out_of_memory=True)))
    assert half.span == Span(0, 7)


def test_after_one_ran_out_of_memory_the_tasks_stay_smaller() -> None:
    machine = JobState([unit(0, 9999)], Limits(max_tasks=1))
    machine.start()
    opened(machine)
    first, second = Span(0, 7), Span(8, 15)
    machine.on(events.TaskLost(0, Span(0, 15), out_of_memory=True))
    for span in (first, second, Span(16, 23)):
        assert len(after(machine, span, 1).span) == 8
    machine.validate()


def test_a_block_that_alone_is_too_much_ends_the_job_and_is_named() -> None:
    machine = JobState([unit(7, 8)], Limits(max_tasks=1))
    machine.start()
    opened(machine)
    (half,) = only(events.Extract, machine.on(events.TaskLost(0, Span(7, 8), out_of_memory=True)))
    assert half.span == Span(7, 7)
    for _ in range(4):
        (again,) = only(events.Extract, machine.on(events.TaskLost(0, Span(7, 7), out_of_memory=True)))
        assert again.span == Span(7, 7)
        assert again.delay > 0
    abandon, finish = machine.on(events.TaskLost(0, Span(7, 7), out_of_memory=True))
    assert abandon == events.Abandon(0)
    assert isinstance(finish, events.Finish)
    assert isinstance(finish.error, OutOfMemory)
    assert "block 7 alone is too much" in str(finish.error)


def test_a_span_that_takes_every_extractor_with_it_ends_the_job() -> None:
    machine = JobState([unit(0, 99)], Limits(max_tasks=2))
    machine.start()
    opened(machine)
    for _ in range(state.MAX_LOSSES - 1):
        assert machine.on(events.TaskLost(0, Span(0, 15))) == [events.Extract(0, Span(0, 15))]
        assert machine.on(events.TaskLost(0, Span(16, 31))) == [events.Extract(0, Span(16, 31))]
        machine.validate()
    machine.on(events.TaskExtracted(0, Span(16, 31), 1))
    abandon, finish = machine.on(events.TaskLost(0, Span(0, 15)))
    assert abandon == events.Abandon(0)
    assert isinstance(finish, events.Finish)
    assert isinstance(finish.error, ActorLost)
    assert "blocks 0..15 lost their extractor 10 times" in str(finish.error)


@pytest.mark.parametrize(("error", "tries"), [(ProviderUnreachable("x"), 5), (DataFault("x"), 2), (WrongChain("x"), 1)])
def test_a_failure_is_tried_again_as_often_as_its_class_allows(error: AmpdError, tries: int) -> None:
    machine = JobState([unit(0, 9)], Limits(max_tasks=1))
    machine.start()
    opened(machine)
    for _ in range(tries - 1):
        (again,) = machine.on(events.TaskFailed(0, Span(0, 9), error))
        assert isinstance(again, events.Extract)
        assert again.delay > 0
    assert machine.on(events.TaskFailed(0, Span(0, 9), error)) == [events.Abandon(0), events.Finish(error)]


def test_a_lost_writer_gives_its_partition_up_and_the_pass_goes_on() -> None:
    machine = JobState([unit(0, 9), unit(10, 19)], Limits())
    machine.start()
    opened(machine)
    assert machine.on(events.WriterLost(0)) == [events.Abandon(0), events.OpenPartition(1, unit(10, 19))]
    assert machine.on(events.TaskExtracted(0, Span(0, 9), 1)) == []


def test_a_late_failure_of_a_partition_that_has_ended_is_nobodys() -> None:
    machine = JobState([unit(0, 9), unit(10, 19)], Limits(max_partitions=2))
    machine.start()
    opened(machine, 0)
    opened(machine, 1)
    machine.on(events.StopAsked())
    machine.on(events.PartitionFinished(0))
    assert machine.on(events.PartitionFailed(0, ProviderUnreachable("late"))) == []
    assert not machine.finished
    error = WrongChain("in time")
    assert machine.on(events.PartitionFailed(1, error)) == [events.Abandon(1), events.Finish(error)]


def test_the_open_file_is_flushed_by_age_once() -> None:
    machine = JobState([unit(0, 999)], Limits(max_tasks=1, flush_secs=10))
    machine.start()
    opened(machine)
    machine.on(events.TaskExtracted(0, Span(0, 15), 1))
    machine.on(events.TaskAppended(0, (Span(0, 15),)))
    assert only(events.Flush, machine.on(events.Tick(9.0, 1))) == []
    assert only(events.Flush, machine.on(events.Tick(10.0, 1))) == [events.Flush(0, "age")]
    assert only(events.Flush, machine.on(events.Tick(11.0, 1))) == []
    machine.on(events.SegmentCommitted(0))
    assert only(events.Flush, machine.on(events.Tick(30.0, 1))) == []


def test_rows_behind_a_cut_are_flushed_by_age_too() -> None:
    """A file ended in the middle of an extract, at the finalized block: what came after it is in the next one."""
    machine = JobState([unit(0, 999)], Limits(max_tasks=1, flush_secs=10))
    machine.start()
    opened(machine)
    machine.on(events.TaskExtracted(0, Span(0, 15), 1))
    machine.on(events.TaskAppended(0, (Span(0, 15),)))
    machine.on(events.Tick(5.0, 1))
    machine.on(events.SegmentCommitted(0, still_open=True))
    assert only(events.Flush, machine.on(events.Tick(14.0, 1))) == []
    assert only(events.Flush, machine.on(events.Tick(15.0, 1))) == [events.Flush(0, "age")]


def test_stopping_commits_what_is_open_and_hands_out_nothing_more() -> None:
    machine = JobState([unit(0, 99), unit(100, 199)], Limits(max_tasks=1))
    machine.start()
    opened(machine)
    assert machine.on(events.StopAsked()) == [events.Flush(0, "stop")]
    assert machine.on(events.TaskLost(0, Span(0, 15))) == []
    assert machine.on(events.PartitionFinished(0)) == [events.Finish()]


class World:
    """Carries out instructions in memory, with failures at random; remembers what was committed."""

    def __init__(self, machine: JobState, rng: random.Random):
        self.machine = machine
        self.rng = rng
        self.pending: list[events.Event] = []
        self.open: dict[int, Unit] = {}
        self.appended: dict[int, set[int]] = {}
        self.early: dict[int, dict[int, Span]] = {}
        self.given_up: set[int] = set()
        self.finished = False

    def carry_out(self, instructions: list[events.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case events.OpenPartition(number, unit):
                    self.open[number] = unit
                    self.appended[number] = set()
                    self.early[number] = {}
                    self.pending.append(events.PartitionOpened(number))
                case events.Extract(number, span):
                    self.pending.append(self.extracted(number, span))
                case events.Append(number, span):
                    self.early[number][span.start] = span
                    self.pending.append(events.TaskAppended(number, tuple(self.joined_up(number))))
                    if len(self.appended[number]) == len(self.open[number].span):
                        self.pending.append(events.PartitionFinished(number))
                case events.Abandon(number):
                    self.given_up.add(number)
                case events.Finish():
                    self.finished = True

    def joined_up(self, number: int) -> Iterator[Span]:
        """What a writer appends now: what comes early waits for what is before it."""
        done, early = self.appended[number], self.early[number]
        while (span := early.pop(self.open[number].span.start + len(done), None)) is not None:
            blocks = set(range(span.start, span.end + 1))
            assert not blocks & done, "a block was appended twice"
            done |= blocks
            yield span

    def extracted(self, number: int, span: Span) -> events.Event:
        chance = self.rng.random()
        if chance < 0.1:
            return events.TaskLost(number, span, out_of_memory=self.rng.random() < 0.5)
        if chance < 0.12:
            return events.WriterLost(number)
        secs = len(span) * self.rng.choice((0.0, 1e-9, 0.01, 1.0, 1e5))
        return events.TaskExtracted(number, span, len(span) * self.rng.randint(1, 1 << 20), secs)

    def run(self) -> None:
        self.carry_out(self.machine.start())
        for _ in range(100_000):
            if self.finished:
                return
            event = self.pending.pop(self.rng.randrange(len(self.pending)))
            self.carry_out(self.machine.on(event))
            self.machine.validate()
        raise AssertionError("the pass does not end")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), partitions=st.integers(1, 3), tasks=st.integers(1, 6))
def test_whatever_is_lost_every_block_is_appended_once_or_its_partition_given_up(
    seed: int, partitions: int, tasks: int
) -> None:
    rng = random.Random(seed)
    units = [unit(start, start + 399) for start in range(0, 2000, 400)]
    world = World(JobState(units, Limits(max_partitions=partitions, max_tasks=tasks, memory_bytes=1 << 22)), rng)
    world.run()
    for number, done in world.open.items():
        if number not in world.given_up:
            assert world.appended[number] == set(range(done.span.start, done.span.end + 1))
    assert merge([u.span for u in world.open.values()]) == [Span(0, 1999)]
