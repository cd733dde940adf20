"""Pieces of work under a bound: in order, first come first served, and nothing stays behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from functools import partial
from itertools import chain, repeat
from typing import Any

import pytest

from ampd_ray.providers.window import Window


class Work:
    """Pieces of work that wait to be told to end; ``started`` and ``running`` are their names."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: set[str] = set()
        self.most = 0
        self._ends: dict[str, asyncio.Event] = {}
        self._errors: dict[str, Exception] = {}

    def pieces(self, *names: str) -> list[Any]:
        return [lambda name=name: self._run(name) for name in names]

    def end(self, *names: str, error: Exception | None = None) -> None:
        for name in names:
            if error is not None:
                self._errors[name] = error
            self._ends[name].set()

    async def _run(self, name: str) -> str:
        self.started.append(name)
        self.running.add(name)
        self.most = max(self.most, len(self.running))
        self._ends[name] = asyncio.Event()
        try:
            await self._ends[name].wait()
        finally:
            self.running.discard(name)
        if name in self._errors:
            raise self._errors[name]
        return name


async def settle() -> None:
    """Until whoever can go on has done so: nothing here waits for anything but the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


async def gathered(window: Window, pieces: list[Any], into: list[str]) -> None:
    async with aclosing(window.in_order(pieces)) as results:
        async for result in results:
            into.append(result)  # noqa: PERF401  (what came before an error counts)


def start(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(coroutine)


def nothing_runs() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_results_come_in_order_whichever_is_ready_first() -> None:
    work, got = Work(), list[str]()
    consumer = start(gathered(Window(lambda: 3), work.pieces(*"abc"), got))
    await settle()
    work.end("c", "b")
    await settle()
    assert got == []
    work.end("a")
    await consumer
    assert got == ["a", "b", "c"]
    assert nothing_runs()


async def test_none_is_no_work() -> None:
    got: list[str] = []
    await gathered(Window(lambda: 3), [], got)
    assert got == []
    assert nothing_runs()


async def test_what_waits_to_be_taken_counts_as_under_way() -> None:
    work, got = Work(), list[str]()
    consumer = start(gathered(Window(lambda: 2), work.pieces(*"abcd"), got))
    await settle()
    assert work.started == ["a", "b"]
    work.end("b")
    await settle()
    assert work.started == ["a", "b"]
    work.end("a")
    await settle()
    assert (got, work.started) == (["a", "b"], ["a", "b", "c", "d"])
    work.end("c", "d")
    await consumer


async def test_what_is_taken_but_worked_on_counts_until_the_next_is_asked_for() -> None:
    work = Work()
    async with aclosing(Window(lambda: 1).in_order(work.pieces(*"ab"))) as results:
        first = asyncio.ensure_future(anext(results))
        await settle()
        work.end("a")
        assert await first == "a"
        await settle()
        assert work.started == ["a"]
        second = asyncio.ensure_future(anext(results))
        await settle()
        assert work.started == ["a", "b"]
        work.end("b")
        assert await second == "b"


async def test_a_width_of_zero_is_one() -> None:
    work, got = Work(), list[str]()
    consumer = start(gathered(Window(lambda: 0), work.pieces(*"ab"), got))
    for name in "ab":
        await settle()
        assert work.running == {name}
        work.end(name)
    await consumer
    assert (got, work.most) == (["a", "b"], 1)


async def test_the_width_may_change_at_any_time() -> None:
    width = 1
    work, got = Work(), list[str]()
    consumer = start(gathered(Window(lambda: width), work.pieces(*"abcdefgh"), got))
    await settle()
    assert work.running == {"a"}
    width = 4
    work.end("a")
    await settle()
    assert work.running == set("bcde")
    width = 2
    work.end("b", "c")
    await settle()
    assert work.running == set("de")
    work.end("d")
    await settle()
    assert work.running == set("ef")
    for name in "efgh":
        work.end(name)
        await settle()
    await consumer
    assert got == list("abcdefgh")


async def test_callers_share_the_room_and_who_came_first_starts_all_of_theirs_first() -> None:
    work, got, later = Work(), list[str](), list[str]()
    window = Window(lambda: 2)
    first = start(gathered(window, work.pieces(*"abcde"), got))
    second = start(gathered(window, work.pieces(*"xy"), later))
    await settle()
    assert work.running == {"a", "b"}
    for ends, running in [("a", "bc"), ("b", "cd"), ("c", "de"), ("d", "ex"), ("x", "ey")]:
        work.end(ends)
        await settle()
        assert work.running == set(running)
    assert later == ["x"]
    work.end("e", "y")
    await asyncio.gather(first, second)
    assert (got, later, work.most) == (list("abcde"), ["x", "y"], 2)


async def test_the_error_of_a_piece_ends_it_after_what_came_before_and_frees_the_room() -> None:
    work, got = Work(), list[str]()
    window = Window(lambda: 3)
    consumer = start(gathered(window, work.pieces(*"abcde"), got))
    await settle()
    work.end("b", error=ZeroDivisionError("b"))
    await settle()
    assert not consumer.done()
    work.end("a")
    with pytest.raises(ZeroDivisionError, match="b"):
        await consumer
    assert got == ["a"]
    assert "e" not in work.started
    assert nothing_runs()
    await assert_all_room_is_free(window, 3)


async def assert_all_room_is_free(window: Window, width: int) -> None:
    work, got = Work(), list[str]()
    names = [str(number) for number in range(width + 1)]
    consumer = start(gathered(window, work.pieces(*names), got))
    await settle()
    assert work.started == names[:width]
    work.end(*names[:width])
    await settle()
    work.end(names[-1])
    await consumer
    assert got == names
    assert nothing_runs()


async def test_closing_early_cancels_what_is_under_way_and_frees_the_room() -> None:
    work = Work()
    window = Window(lambda: 3)
    results = window.in_order(work.pieces(*"abcdef"))
    first = asyncio.ensure_future(anext(results))
    await settle()
    work.end("a")
    assert await first == "a"
    await results.aclose()
    assert work.running == set()
    assert nothing_runs()
    await assert_all_room_is_free(window, 3)


async def test_who_waits_for_a_turn_can_leave() -> None:
    work, got, later = Work(), list[str](), list[str]()
    window = Window(lambda: 1)
    first = start(gathered(window, work.pieces(*"ab"), got))
    second = start(gathered(window, work.pieces("x"), []))
    third = start(gathered(window, work.pieces("y"), later))
    await settle()
    await cancelled(second)
    for name in "aby":
        work.end(name)
        await settle()
    await asyncio.gather(first, third)
    assert (work.started, got, later) == (["a", "b", "y"], ["a", "b"], ["y"])


async def test_a_cancellation_while_an_error_is_on_its_way_leaves_nothing_either() -> None:
    """At each step of the loop from the error on."""
    for steps in range(8):
        work = Work()
        window = Window(lambda: 3)
        consumer = start(gathered(window, work.pieces(*"abcde"), []))
        await settle()
        work.end("a", error=ZeroDivisionError())
        for _ in range(steps):
            await asyncio.sleep(0)
        consumer.cancel()
        with suppress(asyncio.CancelledError, ZeroDivisionError):
            await consumer
        await settle()
        assert work.running == set(), steps
        assert nothing_runs(), steps
        await assert_all_room_is_free(window, 3)


@pytest.mark.parametrize("seed", range(150))
async def test_whatever_happens_when_no_place_stays_taken_and_no_task_runs(seed: int) -> None:
    """Two or three callers; pieces end, fail, or callers are cancelled (once or twice), at random steps of the loop."""
    chance = random.Random(seed)
    widths = chain((chance.randint(0, 4) for _ in range(200)), repeat(3))
    work, window = Work(), Window(partial(next, widths))
    names = [[f"{caller}{n}" for n in range(chance.randint(0, 6))] for caller in "abc"[: chance.randint(2, 3)]]
    got: list[list[str]] = [[] for _ in names]
    consumers = [start(gathered(window, work.pieces(*of), into)) for of, into in zip(names, got, strict=True)]
    while not all(consumer.done() for consumer in consumers):
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        assert len(work.running) <= 4
        if work.running and chance.random() < 0.9:
            failing = chance.random() < 0.05
            work.end(chance.choice(sorted(work.running)), error=ZeroDivisionError() if failing else None)
        elif chance.random() < 0.3:
            chance.choice(consumers).cancel()
    ends = await asyncio.gather(*consumers, return_exceptions=True)
    for of, into, end in zip(names, got, ends, strict=True):
        assert into == of[: len(into)]
        assert isinstance(end, ZeroDivisionError | asyncio.CancelledError) or into == of
    await settle()
    assert work.running == set()
    assert nothing_runs()
    for _ in range(200):
        next(widths)
    await assert_all_room_is_free(window, 3)


async def test_when_nothing_more_is_to_start_the_results_end_with_what_has() -> None:
    window, work, results, more = Window(lambda: 2), Work(), list[str](), [True]

    async def gather() -> None:
        async with aclosing(window.in_order(work.pieces("a", "b", "c", "d"), lambda: more[0])) as given:
            async for result in given:
                results.append(result)

    gathering = asyncio.create_task(gather())
    await settle()
    more[0] = False
    work.end("a", "b")
    await asyncio.wait_for(gathering, 5)
    assert (work.started, results) == (["a", "b"], ["a", "b"])
    following = list[str]()
    next_one = asyncio.create_task(gathered(window, work.pieces("e"), following))
    await settle()
    work.end("e")
    await asyncio.wait_for(next_one, 5)
    assert following == ["e"]
