"""Progress on a terminal: one bar; elsewhere a plain line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from ampd_ray.client.backfills import Backfill
    from ampd_ray.metadb.progress import JobProgress, ReportedProgress

PLAIN_EVERY_SECS = 5.0


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
    def bar(self, run: Backfill) -> Iterator[Callable[[ReportedProgress | None], None]]:
        """A function that takes each progress report."""
        if self._quiet:
            yield lambda reported: None
        elif self._live:
            with self._rich_bar(run) as update:
                yield update
        else:
            yield self._plain(run)

    @contextmanager
    def _rich_bar(self, run: Backfill) -> Iterator[Callable[[ReportedProgress | None], None]]:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rest]}"),
        ]
        with Progress(*columns, console=Console(file=self._stream)) as progress:
            name = f"{run.dataset.namespace}/{run.dataset.name}"
            task = progress.add_task(name, total=len(run.span), completed=run.covered_before, rest="")
            speed = _Speed()

            def update(reported: ReportedProgress | None) -> None:
                if reported is not None and reported.progress.blocks_total is not None:
                    now = reported.progress
                    progress.update(task, completed=now.blocks_done, rest=speed.describe(now))

            yield update

    def _plain(self, run: Backfill) -> Callable[[ReportedProgress | None], None]:
        speed = _Speed()
        said_at = time.monotonic()
        last: int | None = None

        def update(reported: ReportedProgress | None) -> None:
            nonlocal said_at, last
            if reported is None or reported.progress.blocks_total is None:
                return
            now = reported.progress
            finished = now.blocks_done >= len(run.span)
            if now.blocks_done == last or not (finished or time.monotonic() - said_at >= PLAIN_EVERY_SECS):
                return
            said_at, last = time.monotonic(), now.blocks_done
            percent = 100 * now.blocks_done / len(run.span)
            self.say(f"{percent:3.0f} %  {now.blocks_done:,} of {len(run.span):,} blocks  {speed.describe(now)}")

        return update


class _Speed:
    """Requests a second, from the counter of two reports."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._requests = 0
        self._rate = 0.0

    def describe(self, now: JobProgress) -> str:
        """Rates, ETA and what limits, in one short text."""
        elapsed = time.monotonic() - self._at
        if elapsed >= 1.0:
            self._rate = max(0, now.rpc_requests - self._requests) / elapsed
            self._at, self._requests = time.monotonic(), now.rpc_requests
        parts = [f"{now.rate or 0:,.0f} blocks/s", f"{self._rate:,.0f} requests/s"]
        if now.eta_secs is not None:
            parts.append(f"ETA {now.eta_secs:.0f} s")
        if now.limiting_factor:
            parts.append(f"limited by {now.limiting_factor}")
        return "  ".join(parts)
