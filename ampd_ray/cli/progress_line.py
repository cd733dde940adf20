"""One line of progress: for what takes a while and is no job."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any, TextIO

from ampd_ray.cli.painter import is_live

LIVE_EVERY_SECS = 0.2
PLAIN_EVERY_SECS = 5.0


class ProgressLine:
    """One line that is written over on a terminal; elsewhere a line every few seconds.

    ``text`` makes it of a progress and the seconds since the start.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        text: Callable[[Any, float], str],
        quiet: bool = False,
        plain_every_secs: float = PLAIN_EVERY_SECS,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._text = text
        self._stream = stream
        self._quiet = quiet
        self._clock = clock
        self._live = is_live(stream)
        self._every_secs = LIVE_EVERY_SECS if self._live else plain_every_secs
        self._started = self._said_at = clock()
        self._width = 0

    def update(self, progress: Any) -> None:
        """Say how far it is, if it is time to."""
        now = self._clock()
        if self._quiet or now - self._said_at < self._every_secs:
            return
        self._said_at = now
        text = self._text(progress, now - self._started)
        if self._live:
            text = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be written over
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave nothing on the terminal's line."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0
