"""Child processes that say a line when they are ready, and are ended by their own pid."""

import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

import psutil

READY_SECS = 30.0
END_SECS = 10.0


@contextmanager
def running(
    command: Sequence[str],
    ready: str,
    *,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    ready_secs: float = READY_SECS,
    end_secs: float = END_SECS,
) -> Iterator[re.Match[str]]:
    """Run ``command`` until the block ends; yields the match of ``ready`` in its first matching line of output.

    What it says, also after that line, goes to the file ``log``.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    found: SimpleQueue[re.Match[str] | None] = SimpleQueue()
    last: deque[str] = deque(maxlen=20)
    reader = threading.Thread(target=_read, args=(process, re.compile(ready), found, last, log), daemon=True)
    reader.start()
    try:
        yield _wait(found, command, last, ready_secs)
    finally:
        _end(process, end_secs)
        reader.join(END_SECS)
        assert process.stdout is not None
        process.stdout.close()


def processes_in(directory: Path) -> list[psutil.Process]:
    """Those that name the directory on their command line."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(directory) in " ".join(p.info["cmdline"] or ())]


def _read(
    process: subprocess.Popen[str],
    ready: re.Pattern[str],
    found: "SimpleQueue[re.Match[str] | None]",
    last: deque[str],
    log: Path | None,
) -> None:
    """Read on after the ready line too, so that the child never waits for a full pipe."""
    assert process.stdout is not None
    with (log or Path(os.devnull)).open("a", buffering=1) as copy:
        for line in process.stdout:
            last.append(line)
            copy.write(line)
            if match := ready.search(line):
                found.put(match)
    found.put(None)


def _wait(
    found: "SimpleQueue[re.Match[str] | None]", command: Sequence[str], last: deque[str], ready_secs: float
) -> re.Match[str]:
    try:
        match = found.get(timeout=ready_secs)
    except Empty:
        match = None
    if match is None:
        raise AssertionError(f"{command[0]} did not get ready; it said:\n{''.join(last)}")
    return match


def _end(process: subprocess.Popen[str], end_secs: float) -> None:
    process.terminate()
    try:
        process.wait(end_secs)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
