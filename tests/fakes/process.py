"""Child processes that say a line when they are ready, and are ended by their own pid."""

import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue

READY_SECS = 30.0
END_SECS = 10.0


@contextmanager
def running(command: Sequence[str], ready: str) -> Iterator[re.Match[str]]:
    """Run ``command`` until the block ends; yields the match of ``ready`` in its first matching line of output."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found: SimpleQueue[re.Match[str] | None] = SimpleQueue()
    last: deque[str] = deque(maxlen=20)
    reader = threading.Thread(target=_read, args=(process, re.compile(ready), found, last), daemon=True)
    reader.start()
    try:
        yield _wait(found, command, last)
    finally:
        _end(process)
        reader.join(END_SECS)
        assert process.stdout is not None
        process.stdout.close()


def _read(
    process: subprocess.Popen[str],
    ready: re.Pattern[str],
    found: "SimpleQueue[re.Match[str] | None]",
    last: deque[str],
) -> None:
    """Read on after the ready line too, so that the child never waits for a full pipe."""
    assert process.stdout is not None
    for line in process.stdout:
        last.append(line)
        if match := ready.search(line):
            found.put(match)
    found.put(None)


def _wait(found: "SimpleQueue[re.Match[str] | None]", command: Sequence[str], last: deque[str]) -> re.Match[str]:
    try:
        match = found.get(timeout=READY_SECS)
    except Empty:
        match = None
    if match is None:
        raise AssertionError(f"{command[0]} did not get ready; it said:\n{''.join(last)}")
    return match


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(END_SECS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
