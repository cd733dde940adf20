"""How long a solo environment lives: while a session uses it or a job runs in it. The locks are real."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, Thread

import pytest

from ampd_ray.client import solo_lock, solo_session
from ampd_ray.client.solo_lock import Sessions, only_one, running_process, runs_in
from ampd_ray.client.solo_process import SoloProcess
from ampd_ray.client.solo_session import SoloSession
from ampd_ray.errors import NodeInUse, SoloFailed
from tests.fakes.solo import FakeEnvironments, FakeProcess, until

COMINGS = 50


@pytest.fixture
def environments(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEnvironments]:
    """They and their sessions look so often that no test waits."""
    for name in ("POLL_SECS", "LOOK_EVERY_SECS", "ASK_EVERY_SECS"):
        monkeypatch.setattr(solo_lock, name, 0.001)
    monkeypatch.setattr(solo_lock, "PATIENCE_SECS", 0.05)
    monkeypatch.setattr(solo_session, "POLL_SECS", 0.001)
    made = FakeEnvironments()
    yield made
    made.close()


def session(environments: FakeEnvironments, directory: Path) -> SoloSession:
    made = SoloSession(directory, environments.new)
    made.begin(environments.live)
    return made


def test_the_only_session_waits_for_the_end_of_what_it_started(environments: FakeEnvironments, tmp_path: Path) -> None:
    only = session(environments, tmp_path)
    assert running_process(tmp_path) == os.getpid()
    only.check()
    only.leave()
    (started,) = environments.started
    assert started.ended
    assert not runs_in(tmp_path)
    assert running_process(tmp_path) is None


def test_it_stays_for_the_session_that_joined_when_the_one_that_started_it_leaves(
    environments: FakeEnvironments, tmp_path: Path
) -> None:
    first = session(environments, tmp_path)
    second = session(environments, tmp_path)
    first.leave()
    second.check()
    (started,) = environments.serving()
    second.leave()
    until(lambda: started.ended)


def test_it_stays_for_a_job_and_ends_with_it(environments: FakeEnvironments, tmp_path: Path) -> None:
    environments.at_work = True
    only = session(environments, tmp_path)
    only.leave()  # returns, though nothing ends
    (started,) = environments.serving()
    again = session(environments, tmp_path)
    assert environments.started == [started]
    environments.at_work = False
    again.check()
    again.leave()
    until(lambda: started.ended)


def test_two_sessions_that_start_at_the_same_time_share_one(environments: FakeEnvironments, tmp_path: Path) -> None:
    both_found_none = Barrier(2)

    def new(directory: Path) -> SoloProcess:
        both_found_none.wait()
        return environments.new(directory)

    both = [SoloSession(tmp_path, new) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda each: each.begin(environments.live), both))
    (serves,) = environments.serving()
    until(lambda: [each.code for each in environments.started if each is not serves] == [NodeInUse.exit_code])
    for each in both:
        each.check()
        each.leave()
    until(lambda: serves.ended)


def test_who_comes_while_it_ends_waits_and_starts_another(environments: FakeEnvironments, tmp_path: Path) -> None:
    environments.may_end.clear()
    leaving = Thread(target=session(environments, tmp_path).leave)
    leaving.start()
    until(lambda: not environments.serving())
    assert runs_in(tmp_path)
    with pytest.raises(SoloFailed, match=rf"\(process {os.getpid()}\) has been ending for 0 s.*ampd solo --stop"):
        Sessions(tmp_path).join(0.0)
    with ThreadPoolExecutor() as pool:
        coming = pool.submit(session, environments, tmp_path)
        environments.may_end.set()
        next_one = coming.result()
    leaving.join()
    assert [each.serves for each in environments.started] == [False, True]
    next_one.leave()


def test_who_comes_just_as_the_last_one_leaves_finds_one_that_stays(
    environments: FakeEnvironments, tmp_path: Path
) -> None:
    there = session(environments, tmp_path)
    with ThreadPoolExecutor() as pool:
        for coming in range(COMINGS):
            leaving = pool.submit(there.leave)
            if coming % 5:
                with suppress(TimeoutError):  # about as long as the environment takes to look
                    leaving.result(coming % 5 / 1_000)
            else:
                until(lambda: not environments.serving())
            there = session(environments, tmp_path)
            (serves,) = environments.serving()
            leaving.result()
            there.check()
            assert environments.serving() == [serves]
        there.leave()
    until(lambda: not runs_in(tmp_path))
    assert COMINGS // 5 <= len(environments.started) - 1 <= COMINGS


def test_a_session_hears_that_the_environment_has_ended(environments: FakeEnvironments, tmp_path: Path) -> None:
    with only_one(tmp_path):
        joined = SoloSession(tmp_path)
        assert joined.join()
        joined.check()
    with pytest.raises(SoloFailed, match=r"has ended; solo\.log there may say why"):
        joined.check()
    joined.leave()
    environments.fails = True
    with pytest.raises(SoloFailed, match="exit code 1"):
        session(environments, tmp_path)


def test_one_that_does_not_end_is_killed(
    environments: FakeEnvironments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solo_session, "ENDS_WITHIN_SECS", 0.0)
    only = session(environments, tmp_path)
    environments.may_end.clear()
    only.leave()
    (started,) = environments.started
    assert started.killed


def test_an_interrupted_start_is_waited_for(environments: FakeEnvironments, tmp_path: Path) -> None:
    class Interrupted(FakeProcess):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

    process = Interrupted(environments, tmp_path)
    only = SoloSession(tmp_path, lambda _: process)
    with pytest.raises(KeyboardInterrupt):
        only.begin(environments.live)
    only.leave()
    assert process.ended


def test_a_process_that_was_forked_off_leaves_nothing(
    environments: FakeEnvironments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = session(environments, tmp_path)
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -1)
        only.leave()
    only.check()
    (serves,) = environments.serving()
    assert not serves.ended
    only.leave()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("/nowhere/python", "exit code 1: no process can be started: .*/nowhere/python"),
        ("true", "was told to end; its jobs resume in the next"),
        ("false", "ended with exit code 1: it said nothing"),
    ],
)
def test_a_process_that_has_ended_says_how(
    program: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    process = SoloProcess(tmp_path)
    process.check()
    process.start()
    until(lambda: process.ended)
    with pytest.raises(SoloFailed, match=message):
        process.check()
