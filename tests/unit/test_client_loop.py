"""The session's loop: for callers with and without one, until it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Iterator

import pytest

from ampd_ray.client.loop import LoopThread
from ampd_ray.errors import DatabaseUnavailable, SessionClosed, Unexpected, chain_of


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.close()


async def one() -> int:
    return 1


class Endless:
    """Work that waits until it is cancelled."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()

    async def work(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def test_it_serves_callers_in_a_running_loop_and_those_who_await(loop: LoopThread) -> None:
    assert loop.run(one()) == 1
    assert await loop.awaited(one()) == 1


async def refused() -> None:
    try:
        raise ConnectionRefusedError("refused")
    except OSError as error:
        raise DatabaseUnavailable("no answer") from error


async def test_an_expected_error_comes_without_the_frames_of_the_loop_and_with_its_causes(loop: LoopThread) -> None:
    with pytest.raises(DatabaseUnavailable) as plain:
        loop.run(refused())
    with pytest.raises(DatabaseUnavailable) as awaited:
        await loop.awaited(refused())
    for caught, through in ((plain, "run"), (awaited, "awaited")):
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert frames[1:] == [through]
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert caught.value.__cause__.__traceback__ is None
        assert chain_of(caught.value) == ["no answer", "ConnectionRefusedError: refused"]


def test_a_bug_shows_where_it_is(loop: LoopThread) -> None:
    async def buggy() -> None:
        raise KeyError("x")

    async def wrapped() -> None:
        try:
            await buggy()
        except KeyError as error:
            raise Unexpected.of(error) from error

    for work in (buggy, wrapped):
        with pytest.raises((KeyError, Unexpected)) as caught:
            loop.run(work())
        bug = caught.value.__cause__ or caught.value
        assert [frame.name for frame in traceback.extract_tb(bug.__traceback__)][-1] == "buggy"


async def test_a_cancelled_caller_is_free_at_once_and_its_work_ends(loop: LoopThread) -> None:
    endless = Endless()
    waiting = asyncio.create_task(loop.awaited(endless.work()))
    await asyncio.to_thread(endless.began.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(endless.ended.wait, 10)


def test_whoever_waits_is_told_that_it_was_closed(loop: LoopThread) -> None:
    endless = Endless()
    told: list[type[BaseException]] = []

    def wait() -> None:
        try:
            loop.run(endless.work())
        except BaseException as error:
            told.append(type(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert endless.began.wait(10)
    loop.close()
    waiting.join(10)
    assert told == [SessionClosed]
    with pytest.raises(SessionClosed, match=r"is closed.*amp\.connect"):
        loop.run(one())


async def test_whoever_awaits_is_told_that_it_was_closed(loop: LoopThread) -> None:
    endless = Endless()
    waiting = asyncio.create_task(loop.awaited(endless.work()))
    await asyncio.to_thread(endless.began.wait, 10)
    await asyncio.to_thread(loop.close)
    with pytest.raises(SessionClosed):
        await waiting


def test_its_farewell_comes_once_and_last() -> None:
    loop, begun = LoopThread(), threading.Event()
    said: list[str] = []

    async def holding() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            said.append("given back")

    async def farewell() -> None:
        said.append("farewell")

    def hold() -> None:
        with pytest.raises(SessionClosed):
            loop.run(holding())

    holder = threading.Thread(target=hold)
    holder.start()
    assert begun.wait(10)
    loop.close(farewell)
    loop.close(farewell)
    holder.join(10)
    assert said == ["given back", "farewell"]
    assert loop.closed


def test_in_a_forked_process_it_is_closed(loop: LoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    with pytest.raises(SessionClosed, match=f"belongs to process {here}"):
        loop.run(one())
    loop.close()
    monkeypatch.undo()


def test_a_process_that_was_forked_amid_a_call_does_not_wait_for_it(loop: LoopThread) -> None:
    with loop._lock:  # as of another thread, which the fork leaves behind
        child = os.fork()
        if child == 0:  # nothing but the call: what pytest does at an end is not for it
            signal.alarm(10)
            with contextlib.suppress(SessionClosed):
                loop.close()
                loop.run(one())
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
