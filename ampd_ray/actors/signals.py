"""SIGTERM and SIGINT at the driver: what ends a worker, and no longer what ends this process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def noted() -> list[signal.Signals]:
    """Those received from now on, a list that grows. Ray installs handlers of its own, so ours come after its start."""
    received: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return received


@contextmanager
def restored() -> Iterator[None]:
    """Put back what was there, but only when Ray is down: a signal meanwhile has nothing to hurry."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
