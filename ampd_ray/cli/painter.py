"""Some lines at the bottom of a terminal that are drawn over and over, whatever happens to its width meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TextIO

from ampd_ray.cli.card import Line, text_of

EVERY_SECS = 0.25
UNKNOWN = (80, 24)  # columns and rows of a terminal that says it has none
_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
_HIDE_CURSOR, _SHOW_CURSOR, _ERASE_DOWN = "\x1b[?25l", "\x1b[?25h", "\x1b[J"


def is_live(stream: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """True for a terminal on which lines can be drawn over."""
    return stream.isatty() and env.get("TERM") != "dumb"


def has_colours(env: Mapping[str, str] = os.environ) -> bool:
    """False where ``NO_COLOR`` asks for none (``--no-color`` sets it)."""
    return not env.get("NO_COLOR")


def styled(line: Line, colours: bool) -> str:
    """A line with the escape codes of its styles."""
    if not colours:
        return text_of(line)
    return "".join(f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style and text else text for text, style in line)


def erased(lengths: Sequence[int], columns: int) -> str:
    """What takes lines of these lengths away again, from the line below them.

    A terminal that has become narrower has wrapped those that are too long for it.
    """
    rows = sum(max(1, -(-length // max(1, columns))) for length in lengths)
    return f"\x1b[{rows}A\r{_ERASE_DOWN}" if rows else f"\r{_ERASE_DOWN}"


class Painter:
    """Draws what ``lines`` says for the terminal's width, four times a second, as long as the context lasts.

    The last state stays. Each frame ends with a new line, so that what the terminal echoes (``^C``) is drawn over.
    """

    def __init__(self, stream: TextIO, lines: Callable[[int], Sequence[Line]]):
        self._stream = stream
        self._lines = lines
        self._drawn: list[int] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="display", daemon=True)

    def __enter__(self) -> Painter:
        self._stream.write(_HIDE_CURSOR)
        self._paint()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._paint()
        self._stream.write(_SHOW_CURSOR)
        self._stream.flush()

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECS):
            self._paint()

    def _paint(self) -> None:
        with self._lock:
            size = os.get_terminal_size(self._stream.fileno())
            columns, rows = size.columns or UNKNOWN[0], size.lines or UNKNOWN[1]
            # A column less, since some terminals wrap a line that fills them; of what is too high, the end.
            lines = self._lines(columns - 1)[-max(1, rows - 1) :]
            frame = "".join(styled(line, has_colours()) + "\n" for line in lines)
            self._stream.write(erased(self._drawn, columns) + frame)
            self._stream.flush()
            self._drawn = [len(text_of(line)) for line in lines]
