"""What runs, on a terminal as a card that is drawn over; elsewhere as a plain line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ampd_ray.cli.card import SILENT_SECS, card, plain
from ampd_ray.cli.painter import Painter, is_live

if TYPE_CHECKING:
    from ampd_ray.cli.card import Line, Subject
    from ampd_ray.client.progress import Progress

    Update = Callable[[Progress], None]

PLAIN_EVERY_SECS = 5.0


class Display:
    """Says things on ``stream``, which is not where results go."""

    def __init__(self, stream: TextIO, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic):
        self._stream = stream
        self._quiet = quiet
        self._clock = clock

    def say(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say what takes a moment, and how long it took."""
        started = self._clock()
        self.say(f"{what} …")
        yield
        self.say(f"ready after {self._clock() - started:.1f} s")

    @contextmanager
    def watching(self, subject: Subject) -> Iterator[Update]:
        """A function that takes each state of a job."""
        if self._quiet:
            yield lambda now: None
        elif is_live(self._stream):
            state = _Card(subject, self._clock)
            with Painter(self._stream, state.lines):
                yield state.update
        else:
            yield _Plain(subject, self.say, self._clock).update


class _Card:
    """The job as it was last heard of."""

    def __init__(self, subject: Subject, clock: Callable[[], float]):
        self._subject = subject
        self._clock = clock
        self._started = self._heard_at = clock()
        self._now: Progress | None = None

    def update(self, now: Progress) -> None:
        self._now, self._heard_at = now, self._clock()

    def lines(self, width: int) -> list[Line]:
        at = self._clock()
        if self._now is None:
            return [[("starting", "")]]
        return card(
            self._subject, self._now, width, secs=at - self._started, unheard_secs=at - self._heard_at
        )  # fmt: skip


class _Plain:
    """Lines for a log: only when something has changed, and the last state in any case."""

    def __init__(self, subject: Subject, say: Callable[[str], None], clock: Callable[[], float]):
        self._subject = subject
        self._say = say
        self._clock = clock
        self._said_at = self._heard_at = clock()
        self._last: tuple[object, ...] | None = None

    def update(self, now: Progress) -> None:
        at = self._clock()
        if at - self._heard_at > SILENT_SECS:
            self._say(f"the database answers again, after {at - self._heard_at:.0f} s")
        self._heard_at = at
        silent = now.age_secs is not None and now.age_secs > SILENT_SECS
        state = (now.done, now.status.terminal, now.holes, silent)
        if now.phase is None and not now.status.terminal:
            return  # nothing is known of this run yet
        if state == self._last or (not now.status.terminal and at - self._said_at < PLAIN_EVERY_SECS):
            return
        self._said_at, self._last = at, state
        self._say(plain(self._subject, now))
