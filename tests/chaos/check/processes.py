"""I8: what processes use stays within bounds and does not grow; /proc tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

STAGING_BYTES = 256 << 20


@dataclass(frozen=True)
class Use:
    """What one process uses; ``rss`` in bytes."""

    rss: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> Use:
        """That of now."""
        with process.oneshot():
            return cls(process.memory_info().rss, process.num_fds(), process.num_threads())

    def beyond(self, limit: Use) -> Iterator[str]:
        """What is more than ``limit`` allows."""
        for name, used, most in zip(("rss", "descriptors", "threads"), self, limit, strict=True):
            if used > most:
                yield f"{name} {used}, at most {most}"

    def __iter__(self) -> Iterator[int]:
        return iter((self.rss, self.descriptors, self.threads))


MOST = Use(600 << 20, 300, 120)
SETTLED = 2  # looks at a process, after which it is to stay as it is
GROWTH = Use(150 << 20, 128, 24)  # of one process over all the time; a burst of blocks opens connections


class Uses:
    """Remembers what each process used at first, when it had settled."""

    def __init__(self, most: Use = MOST, growth: Use = GROWTH) -> None:
        self._most = most
        self._growth = growth
        self._seen: dict[psutil.Process, list[Use]] = {}

    def look(self, pids: Sequence[int]) -> Iterator[str]:
        """Which of these processes uses too much, or more and more."""
        for pid in pids:
            try:
                process = psutil.Process(pid)
                use, title = Use.of(process), " ".join(process.cmdline())[:60]
            except psutil.Error:
                continue
            seen = self._seen.setdefault(process, [])
            if len(seen) < SETTLED:
                seen.append(use)
            grown = Use(*(max(before) + more for *before, more in zip(*seen, self._growth, strict=True)))
            for what in [*use.beyond(self._most), *(use.beyond(grown) if len(seen) == SETTLED else ())]:
                yield f"I8 {pid} {title}: {what}"


def staging(directory: Path, most: int = STAGING_BYTES) -> Iterator[str]:
    """I8: unfinished files do not pile up."""
    used = sum(each.stat().st_size for each in directory.rglob("*") if each.is_file())
    if used > most:
        yield f"I8 {directory}: {used} bytes, at most {most}"
