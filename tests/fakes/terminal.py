"""A terminal that a command believes in: it draws its bar, and Ctrl-C reaches its whole process group."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.fakes.site import wait_until

CTRL_C = b"\x03"
ROWS, COLUMNS = 24, 80
END_SECS = 60.0
# A session of its own is made by Popen; this makes the terminal the one that controls it, as a shell's is.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A command on a terminal of 80 columns."""

    def __init__(self, process: subprocess.Popen[bytes], master: int):
        self.process = process
        self._master = master
        self._said = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def text(self) -> str:
        """All that was printed, colours and cursor moves taken out; each state of the bar is a line."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._said.decode(errors="replace"))
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def shows(self, pattern: str, within: float = 90.0) -> re.Match[str]:
        """Wait until something printed matches."""
        found = wait_until(lambda: re.search(pattern, self.text()) or self.process.poll() is not None, within, pattern)
        assert isinstance(found, re.Match), f"it ended without {pattern!r}:\n{self.text()}"
        return found

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def ends(self, within: float = END_SECS) -> int:
        """Wait for its end, with all of its output read; the exit code."""
        code = self.process.wait(within)
        self._reader.join(within)
        return code

    def _read(self) -> None:
        """Until the last process that has the terminal open is gone."""
        try:
            while data := os.read(self._master, 65536):
                self._said += data
        except OSError:  # how Linux says so
            return


@contextmanager
def terminal(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """Run ``command``, an absolute path with arguments, on a terminal; killed with its group if it has not ended."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=None if env is None else {**env, "TERM": "xterm-256color"},
    )
    os.close(slave)
    running = Terminal(process, master)
    try:
        yield running
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        running.ends()
        os.close(master)
