"""What a pass does about blocks that a provider delivers wrongly: others are asked, the rest goes on, hope ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import (
    AmpdError,
    BlockUnavailable,
    DataFault,
    MalformedResponse,
    NoGoodBlock,
    ProviderUnreachable,
    ResponseTooLarge,
    ValueOverflow,
)
from ampd_ray.materialize import events
from ampd_ray.materialize.faults import HOPELESS_BLOCKS, LIES, MAX_FAULT_CHARS, OF_LATE_BLOCKS, Doubts, around, evidence
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.state import JobState, Limits

Delivers = Callable[[int, int], AmpdError | None]  # what provider and block come to; None: it is good


def wrong(block: int) -> DataFault:
    return DataFault(f"block {block} contradicts itself", block=block, tries=4)


class World:
    """Carries a pass out: each task fails with the fault of its lowest bad block. Remembers who was asked for what."""

    def __init__(self, span: Span, doubts: Doubts, delivers: Delivers, tasks: int = 3):
        self.asked: list[tuple[int, Span]] = []
        self.got: Counter[int] = Counter()
        self.aside: dict[int, dict[int, AmpdError]] = {}
        self.error: AmpdError | None = None
        self._span = span
        self._delivers = delivers
        self._machine = JobState([Unit(span, ("blocks",))], Limits(max_tasks=tasks), doubts=doubts)

    def run(self) -> None:
        waiting = self._machine.start()
        while waiting:
            instruction = waiting.pop(0)
            if isinstance(instruction, events.Finish):
                self.error = instruction.error
                return
            for event in self._carry_out(instruction):
                waiting += self._machine.on(event)
                self._machine.validate()
        raise AssertionError("the pass does not end")

    def _carry_out(self, instruction: events.Instruction) -> list[events.Event]:
        match instruction:
            case events.OpenPartition(number, _):
                return [events.PartitionOpened(number)]
            case events.Extract(number, span, _, provider):
                self.asked.append((provider, span))
                errors = (self._delivers(provider, block) for block in range(span.start, span.end + 1))
                error = next((error for error in errors if error is not None), None)
                if error is not None:
                    return [events.TaskFailed(number, span, error)]
                return [events.TaskExtracted(number, span, len(span))]
            case events.Append(number, span):
                self.got.update(range(span.start, span.end + 1))
                return self._taken(number, span)
            case events.SetAside(number, block, faults):
                self.aside[block] = dict(faults)
                return self._taken(number, Span(block, block))
        return []

    def _taken(self, number: int, span: Span) -> list[events.Event]:
        done = len(self.got) + len(self.aside) == len(self._span)
        return [events.TaskAppended(number, (span,)), *([events.PartitionFinished(number)] if done else [])]


def test_only_the_bad_block_is_asked_of_the_next_provider() -> None:
    world = World(Span(0, 99), Doubts(2), lambda provider, block: wrong(7) if (provider, block) == (0, 7) else None)
    world.run()
    assert (world.error, world.aside) == (None, {})
    assert world.got == Counter(range(100))
    assert [span for provider, span in world.asked if provider == 1] == [Span(7, 7)]


def test_what_nobody_delivers_is_set_aside_with_what_each_had_to_say() -> None:
    world = World(
        Span(0, 99), Doubts(2, quarantine=True), lambda _, block: wrong(block) if block in (0, 7, 99) else None
    )
    world.run()
    assert world.error is None
    assert {block: list(faults) for block, faults in world.aside.items()} == {0: [0, 1], 7: [0, 1], 99: [0, 1]}
    assert world.got == Counter(set(range(100)) - {0, 7, 99})


def test_without_quarantine_the_job_ends_with_the_fault_of_the_first() -> None:
    world = World(Span(0, 99), Doubts(2), lambda provider, block: wrong(block + provider) if block == 7 else None)
    world.run()
    assert isinstance(world.error, DataFault)
    assert world.error.details["block"] == 7


def test_a_fault_that_the_source_has_not_asked_for_again_is_asked_for_again_first() -> None:
    fault = ValueOverflow("block 7 value: does not fit", block=7)
    world = World(Span(7, 7), Doubts(2, quarantine=True, any_good=True), lambda _, block: fault)
    world.run()
    assert [provider for provider, _ in world.asked] == [0, 0, 1]
    assert list(world.aside) == [7]


def test_a_fault_without_its_block_is_found_by_halving() -> None:
    world = World(
        Span(0, 15), Doubts(quarantine=True), lambda _, block: DataFault("something", tries=4) if block == 5 else None
    )
    world.run()
    assert list(world.aside) == [5]
    assert len(world.asked) < 12


def test_who_lies_again_and_again_is_asked_last() -> None:
    world = World(Span(0, 999), Doubts(2), lambda provider, block: wrong(block) if provider == 0 else None, tasks=1)
    world.run()
    assert world.got == Counter(range(1000))
    assert Counter(provider for provider, _ in world.asked)[0] == LIES


def test_a_provider_that_is_good_again_is_not_held_to_old_lies() -> None:
    doubts = Doubts(2)
    for _ in range(LIES - 1):
        doubts.delivered(1, after=[0], blocks=1)
    doubts.delivered(0, after=[], blocks=1)
    doubts.delivered(1, after=[0], blocks=1)
    assert doubts.first == 0


def test_a_job_of_which_every_block_fails_stops_early_and_sets_nothing_aside_for_it() -> None:
    doubts = Doubts(quarantine=True)
    world = World(Span(0, 9999), doubts, lambda _, block: wrong(block))
    world.run()
    assert isinstance(world.error, NoGoodBlock)
    assert len(world.asked) < 3 * HOPELESS_BLOCKS
    assert set(world.aside) < set(world.error.details["blocks"])  # what is to be taken back
    assert "contradicts itself" in str(world.error)


def test_a_few_blocks_may_all_be_bad() -> None:
    world = World(Span(0, 2), Doubts(quarantine=True, any_good=True), lambda _, block: wrong(block))
    world.run()
    assert world.error is None
    assert set(world.aside) == {0, 1, 2}


@pytest.mark.parametrize(("of_three", "hope"), [(1, True), (2, False)])
def test_more_good_blocks_than_bad_ones_leave_hope(of_three: int, hope: bool) -> None:
    world = World(
        Span(0, 299), Doubts(quarantine=True), lambda _, block: wrong(block) if block % 3 < of_three else None
    )
    world.run()
    assert (world.error is None) == hope
    assert (len(world.aside) == 100) == hope


def test_what_was_good_long_ago_leaves_no_hope_for_long() -> None:
    """From half way on everything is wrong."""
    world = World(Span(0, 19_999), Doubts(quarantine=True), lambda _, block: wrong(block) if block >= 10_000 else None)
    world.run()
    assert isinstance(world.error, NoGoodBlock)
    assert len(world.asked) < OF_LATE_BLOCKS * 4


def test_who_cannot_be_heard_is_not_a_liar() -> None:
    away = ProviderUnreachable("nobody answers", block=7)
    world = World(Span(0, 9), Doubts(2, quarantine=True), lambda _, block: away if block == 7 else None)
    world.run()
    assert world.error is away
    assert world.aside == {}
    assert {provider for provider, _ in world.asked} == {0}


def test_if_the_next_one_cannot_be_heard_the_block_is_set_aside_and_says_so() -> None:
    away = ProviderUnreachable("nobody answers", block=7)
    faults = {0: wrong(7), 1: away}
    world = World(
        Span(0, 9), Doubts(2, quarantine=True), lambda provider, block: faults[provider] if block == 7 else None
    )
    world.run()
    assert world.aside == {7: faults}


@pytest.mark.parametrize(("settled", "aside"), [(7, True), (6, False)])
def test_null_is_a_fault_only_far_below_the_head(settled: int, aside: bool) -> None:
    null = BlockUnavailable("block 7: null", block=7, tries=5)
    world = World(Span(0, 9), Doubts(quarantine=True, settled=settled), lambda _, block: null if block == 7 else None)
    world.run()
    assert (7 in world.aside, world.error is null) == (aside, not aside)


@pytest.mark.parametrize("providers", [1, 2])
def test_a_block_that_is_too_large_wherever_it_is_asked_for_is_set_aside(providers: int) -> None:
    large = ResponseTooLarge("block 7: answered more than 128 MiB", block=7, tries=1)
    world = World(Span(0, 15), Doubts(providers, quarantine=True), lambda _, block: large if block == 7 else None)
    world.run()
    assert world.error is None
    assert {block: list(faults) for block, faults in world.aside.items()} == {7: list(range(providers))}
    assert world.got == Counter(set(range(16)) - {7})


def test_what_is_too_large_for_another_is_taken_from_the_next() -> None:
    large = ResponseTooLarge("block 7: answered HTTP 413", block=7, tries=1)
    world = World(Span(0, 15), Doubts(2), lambda provider, block: large if (provider, block) == (0, 7) else None)
    world.run()
    assert (world.error, world.got) == (None, Counter(range(16)))


def test_what_is_too_large_and_nobody_knows_which_is_no_blocks_fault() -> None:
    large = ResponseTooLarge("answered more than 128 MiB", tries=8)
    world = World(Span(0, 15), Doubts(2, quarantine=True), lambda _, block: large if block == 7 else None)
    world.run()
    assert world.error is large
    assert world.aside == {}


def test_a_provider_that_does_not_speak_json_is_passed_over_and_no_block_is_set_aside() -> None:
    html = MalformedResponse("block 7: answered HTML instead of JSON", block=7, tries=3)
    world = World(Span(0, 15), Doubts(2, quarantine=True), lambda _, block: html if block == 7 else None)
    world.run()
    assert world.error is html
    assert {provider for provider, _ in world.asked} == {0, 1}
    assert world.aside == {}


@settings(max_examples=60, deadline=None)
@given(
    bad=st.sets(st.tuples(st.integers(0, 2), st.integers(0, 299)), max_size=60),
    providers=st.integers(1, 3),
    tasks=st.integers(1, 6),
)
def test_every_block_is_taken_once_or_set_aside_if_nobody_has_it(
    bad: set[tuple[int, int]], providers: int, tasks: int
) -> None:
    world = World(
        Span(0, 299), Doubts(providers, quarantine=True, any_good=True),
        lambda provider, block: wrong(block) if (provider, block) in bad else None, tasks=tasks,
    )  # fmt: skip
    world.run()
    nobodys = {block for block in range(300) if all((provider, block) in bad for provider in range(providers))}
    if world.error is None:
        assert set(world.aside) == nobodys
        assert world.got == Counter(set(range(300)) - nobodys)
    else:
        assert len(nobodys) >= HOPELESS_BLOCKS


def test_around_a_block() -> None:
    assert around(Span(0, 9), 4) == ([Span(0, 3), Span(5, 9)], Span(4, 4))
    assert around(Span(0, 9), 0) == ([Span(1, 9)], Span(0, 0))
    assert around(Span(0, 9), 9) == ([Span(0, 8)], Span(9, 9))
    for elsewhere in (None, 10):
        assert around(Span(0, 9), elsewhere) == ([Span(0, 4), Span(5, 9)], None)


def test_evidence_is_bounded_and_holds_what_people_need() -> None:
    error = DataFault("x" * 9999, block=7, check=3, host="example.com", secret="hush")
    (told,) = evidence({"alchemy": error})
    facts = {"provider": "alchemy", "code": "DATA_FAULT", "host": "example.com", "check": "3"}
    assert told == facts | {"message": "x" * MAX_FAULT_CHARS}
