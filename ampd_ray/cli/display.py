"""Progress on a terminal: one bar; elsewhere a plain line every few seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ampd_ray.cli.output import duration

if TYPE_CHECKING:
    from ampd_ray.client.progress import Progress as JobProgress

    Update = Callable[[JobProgress], None]

PLAIN_EVERY_SECS = 5.0
# A node reports every second: after so long without a word, say so.
SILENT_SECS = 10.0
REQUESTS_WINDOW_SECS = 10.0
MIN_BAR, MAX_BAR, TEXT = 12, 40, 64  # cells of the bar, and those that a long text beside it takes


class Display:
    """Says things on ``stream``, which is not where results go."""

    def __init__(self, stream: TextIO, *, quiet: bool = False):
        self._stream = stream
        self._quiet = quiet
        self._live = stream.isatty() and not quiet

    def say(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say what takes a moment, and how long it took."""
        started = time.monotonic()
        self.say(f"{what} …")
        yield
        self.say(f"ready after {time.monotonic() - started:.1f} s")

    @contextmanager
    def bar(self, total: int, covered: int) -> Iterator[Update]:
        """A function that takes the progress towards ``total`` blocks, ``covered`` of which were there before."""
        if self._quiet:
            yield lambda now: None
        elif self._live:
            with self._rich_bar(total, covered) as update:
                yield update
        else:
            yield self._plain(total)

    @contextmanager
    def _rich_bar(self, total: int, covered: int) -> Iterator[Update]:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        console = Console(file=self._stream, highlight=False)
        columns = (
            BarColumn(max(MIN_BAR, min(MAX_BAR, console.width - TEXT))),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rest]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=total, completed=covered, rest="starting")
            speed = _Speed()

            def update(now: JobProgress) -> None:
                if now.age_secs is not None:
                    progress.update(task, completed=now.done, rest=speed.describe(now))

            yield update

    def _plain(self, total: int) -> Update:
        speed = _Speed()
        said_at = time.monotonic()
        last: int | None = None

        def update(now: JobProgress) -> None:
            nonlocal said_at, last
            if now.age_secs is None:
                return
            finished = now.done >= total
            if now.done == last or not (finished or time.monotonic() - said_at >= PLAIN_EVERY_SECS):
                return
            said_at, last = time.monotonic(), now.done
            self.say(f"{100 * now.done / total:3.0f} %  {now.done:,} of {total:,} blocks  {speed.describe(now)}")

        return update


class _Speed:
    """Requests a second, from the counter that the reports carry: it jumps with each task, so over a while."""

    def __init__(self) -> None:
        self._history = deque([(time.monotonic(), 0)])

    def describe(self, now: JobProgress) -> str:
        """Rates, the time left and what limits, in one short text."""
        if now.age_secs is not None and now.age_secs > SILENT_SECS:
            return f"no word from {now.node_id} for {duration(now.age_secs)}"
        requests = self._requests_per_sec(now.rpc_requests)
        if not now.rpc_requests:
            return "starting"
        parts = [f"{now.blocks_per_sec or 0:,.0f} blocks/s", f"{requests:,.0f} requests/s"]
        if now.eta_secs:
            parts.append(f"ETA {duration(now.eta_secs) if now.eta_secs >= 100 else f'{now.eta_secs:.0f} s'}")
        if now.limit:
            parts.append(f"limit: {now.limit}")
        return "  ".join(parts)

    def _requests_per_sec(self, requests: int) -> float:
        now = time.monotonic()
        self._history.append((now, requests))
        while now - self._history[0][0] > REQUESTS_WINDOW_SECS:
            self._history.popleft()
        then, before = self._history[0]
        return max(0, requests - before) / (now - then) if now > then else 0.0
