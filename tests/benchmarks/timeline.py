"""Who is busy when: CPU of each kind of process, and what the node serves, over a run. No stage should idle alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.benchmarks.usage import cpu_secs, of_environment
from tests.fakes.http import fetch

STEP_SECS: Final = 0.5
LANES: Final = {
    "extract": "Extractor",
    "write": "Writer",
    "coordinate": "Coordinator",
    "postgres": "postgres",
    "ray": "",  # all that is none of the others
}
BARS: Final = " ▁▂▃▄▅▆▇█"


@dataclass
class Timeline:
    """Per step: cores that each lane kept busy, and blocks that the node served a second."""

    lanes: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LANES})
    served: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        """A bar for each step, its height the share of all cores, or of the most blocks."""
        most = max([*self.served, 1.0])
        lines = [f"{name:11}{_bars(values, 2.0)}  {_mean(values):.2f} cores" for name, values in self.lanes.items()]
        lines.append(f"{'blocks/s':11}{_bars(self.served, most)}  {most:.0f} at most")
        return "\n".join([*lines, f"{'':11}{'one mark each ' + str(STEP_SECS) + ' s'}"])


def _bars(values: list[float], most: float) -> str:
    return "".join(BARS[min(8, round(8 * value / most))] for value in values)


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


@contextmanager
def watched(amp_dir: Path, url: str) -> Iterator[Timeline]:
    """The timeline of what happens while the block runs, of a solo environment and the load server that it asks."""
    timeline, ended = Timeline(), threading.Event()
    thread = threading.Thread(target=_watch, args=(timeline, amp_dir, url, ended))
    thread.start()
    try:
        yield timeline
    finally:
        ended.set()
        thread.join()


def _watch(timeline: Timeline, amp_dir: Path, url: str, ended: threading.Event) -> None:
    before, blocks, since = _lanes(amp_dir), fetch(url)["blocks"], time.monotonic()
    while not ended.wait(STEP_SECS):
        now, served, at = _lanes(amp_dir), fetch(url)["blocks"], time.monotonic()
        for name, values in timeline.lanes.items():
            values.append(max(0.0, now[name] - before[name]) / (at - since))
        timeline.served.append((served - blocks) / (at - since))
        before, blocks, since = now, served, at


def _lanes(amp_dir: Path) -> dict[str, float]:
    """CPU seconds so far."""
    found = dict.fromkeys(LANES, 0.0)
    for process, secs in cpu_secs(of_environment(amp_dir)).items():
        found[next(name for name, part in LANES.items() if part in process)] += secs
    return found
