"""Cards that follow a job: what they show when the database is away, when they end, and that they end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ampd_ray.client.displays import live
from ampd_ray.client.displays.live import MOST_DISPLAYS, Follower
from ampd_ray.client.displays.watcher import RATES_EVERY_SECS, RETRIED_WITHIN_SECS, Watcher
from ampd_ray.errors import DatabaseUnavailable, NotFound
from ampd_ray.metadb.statuses import JobStatus
from tests.fakes.shown_jobs import FakeJob, progress

DONE = progress(status=JobStatus.COMPLETED, done=3000)
FAILED = progress(status=JobStatus.ERROR, error="it broke")
AWAY = DatabaseUnavailable("away")
WITHIN_SECS = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# -- what is shown next -----------------------------------------------------------------------------------------------


def test_a_job_is_looked_at_until_it_has_ended() -> None:
    job = FakeJob(progress(), DONE)
    watcher = Watcher(job, Clock())
    first, last = watcher.look(), watcher.look()
    assert (first.over, last.over) == (False, True)
    assert "63.4 %" in first.bundle["text/plain"]
    assert "100 %" in last.bundle["text/plain"]
    assert "<svg" in last.bundle["text/html"]


def test_rates_are_asked_for_now_and_then_and_at_the_end() -> None:
    clock, job = Clock(), FakeJob(*[progress()] * 10, DONE)
    watcher = Watcher(job, clock)
    for _ in range(10):
        watcher.look()
        clock.now += RATES_EVERY_SECS / 4
    assert job.rates_asked == 3
    watcher.look()
    assert job.rates_asked == 4


def test_a_database_that_is_away_leaves_what_was_and_says_so() -> None:
    watcher = Watcher(FakeJob(progress(), AWAY, AWAY, progress(done=2000)), Clock())
    views = [watcher.look() for _ in range(4)]
    assert [view.over for view in views] == [False] * 4
    for view in views[1:3]:
        for text in view.bundle.values():
            assert "1,902 of 3,000 blocks" in text
            assert "the database is away" in text
    assert views[1] == views[2]
    assert "away" not in views[3].bundle["text/plain"]


def test_a_job_that_cannot_be_asked_any_more_is_over_and_says_why() -> None:
    view = Watcher(FakeJob(NotFound("there is no job 42")), Clock()).look()
    assert view.over
    assert "there is no job 42" in view.bundle["text/plain"]
    view = Watcher(FakeJob(RuntimeError("Event loop is closed")), Clock()).look()
    assert view.over
    assert "the session is closed" in view.bundle["text/plain"]


def test_a_job_that_is_tried_again_by_itself_is_followed_for_as_long_as_that_takes() -> None:
    clock = Clock()
    watcher = Watcher(FakeJob(FAILED, FAILED, progress(), FAILED), clock)
    assert not watcher.look().over
    clock.now += RETRIED_WITHIN_SECS
    assert not watcher.look().over
    assert not watcher.look().over
    clock.now += 1
    assert not watcher.look().over
    clock.now += RETRIED_WITHIN_SECS + 1
    assert watcher.look().over


# -- the thread ------------------------------------------------------------------------------------------------------


class Screen:
    """A display that keeps what it was given."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, bundle: dict[str, str], update: bool) -> None:
        assert update
        self.shown.append(bundle["text/plain"].splitlines()[1])


def following(job: FakeJob, *screens: Any, every_secs: float = 0.001) -> Follower:
    follower = Follower(Watcher(job, Clock()), every_secs)
    for screen in screens:
        assert follower.add(screen, {})
    follower.thread.start()
    return follower


def test_all_displays_are_updated_until_the_job_has_ended_and_the_thread_ends() -> None:
    screens = Screen(), Screen()
    follower = following(FakeJob(progress(), progress(done=2000), DONE), *screens)
    follower.thread.join(WITHIN_SECS)
    assert not follower.thread.is_alive()
    for screen in screens:
        assert [text.split("  ")[1] for text in screen.shown] == ["63.4 %", "66.6 %", "100 %"]
    assert follower.add(Screen(), {}) is False


def test_nothing_is_sent_while_nothing_changes() -> None:
    screen = Screen()
    following(FakeJob(*[progress()] * 50, DONE), screen).thread.join(WITHIN_SECS)
    assert len(screen.shown) == 2


def test_a_look_can_be_asked_for_and_is_waited_for() -> None:
    screen = Screen()
    follower = following(FakeJob(progress(), DONE), screen, every_secs=3600.0)
    follower.look_now(WITHIN_SECS)
    assert len(screen.shown) == 1
    follower.look_now(WITHIN_SECS)
    assert "100 %" in screen.shown[-1]
    follower.look_now(WITHIN_SECS)  # it is over: nothing to wait for
    follower.thread.join(WITHIN_SECS)
    assert not follower.thread.is_alive()


def test_a_display_that_fails_ends_the_thread_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(bundle: dict[str, str], update: bool) -> None:
        raise OSError("the kernel is gone")

    following(FakeJob(progress()), broken).thread.join(WITHIN_SECS)
    assert capfd.readouterr() == ("", "")


def test_of_many_displays_the_newest_are_kept() -> None:
    screens = [Screen() for _ in range(MOST_DISPLAYS + 1)]
    following(FakeJob(DONE), *screens).thread.join(WITHIN_SECS)
    assert [len(screen.shown) for screen in screens] == [0] + [1] * MOST_DISPLAYS


# -- in IPython ------------------------------------------------------------------------------------------------------


class Publisher:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bool]] = []

    def publish(self, *, data: dict[str, str], metadata: Any, transient: dict[str, str], update: bool) -> None:
        assert data.keys() == {"text/html", "text/plain"}
        self.sent.append((transient["display_id"], update))


class Capturing(Publisher):
    pass


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """IPython as far as it is used, in a kernel."""
    made = SimpleNamespace(kernel=object(), display_pub=Publisher())
    ipython, displaypub = ModuleType("IPython"), ModuleType("IPython.core.displaypub")
    ipython.get_ipython = lambda: made  # type: ignore[attr-defined]
    displaypub.CapturingDisplayPublisher = Capturing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.core.displaypub", displaypub)
    return made


def released(*says: Any) -> tuple[FakeJob, Callable[[], None]]:
    """A job that is as it is first until it is released."""
    job = FakeJob(says[0])

    def release() -> None:
        job.says = list(says[1:])

    return job, release


def test_a_job_that_is_shown_twice_has_one_thread_and_two_displays_that_end_true(shell: SimpleNamespace) -> None:
    session = object()
    job, end = released(progress(), DONE)
    live.show(job, session)
    live.show(job, session)
    live.show_once(job, session)
    assert [thread.name for thread in threading.enumerate()].count("ampd-ray-card") == 1
    end()
    live.settle(job, session)
    ids = [display for display, update in shell.display_pub.sent if not update]
    assert len(set(ids)) == 2
    assert [display for display, update in shell.display_pub.sent if update] == ids


def test_a_wait_shows_a_card_of_its_own_if_none_is_there(shell: SimpleNamespace) -> None:
    job, end = released(progress(), DONE)
    session = object()
    live.show_once(job, session)
    assert live.is_shown(job, session)
    end()
    live.settle(job, session)
    live.show_once(FakeJob(DONE), session)
    assert [update for _, update in shell.display_pub.sent] == [False, True, False]


def test_an_ended_job_is_shown_without_a_thread(shell: SimpleNamespace) -> None:
    session = object()
    live.show(FakeJob(DONE), session)
    assert not live.is_shown(FakeJob(DONE), session)
    assert len(shell.display_pub.sent) == 1


@pytest.mark.parametrize("where", ["a terminal", "captured output"])
def test_where_nothing_can_be_updated_a_job_is_shown_as_it_is(shell: SimpleNamespace, where: str) -> None:
    if where == "a terminal":
        del shell.kernel
    else:
        shell.display_pub = Capturing()
    job, session = FakeJob(progress()), object()
    live.show(job, session)
    assert len(shell.display_pub.sent) == 1
    assert not live.is_shown(job, session)
    live.show_once(job, session)
    assert len(shell.display_pub.sent) == 1


def test_without_ipython_a_wait_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    job = FakeJob(progress())
    live.show_once(job, object())
    live.settle(job, object())
    assert job.looks == 0
    assert "IPython" not in sys.modules
