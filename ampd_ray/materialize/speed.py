"""How fast a run is: over the last seconds for the live row, and over time for the plot (pure)."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final, NamedTuple

# The rate is that of the last few seconds, so that it follows a change and does not jump with every segment.
WINDOW_SECS: Final = 10.0
SAMPLE_SECS: Final = 5.0
# A sample is kept for each 1/200 of the time so far: 200 * ln(t / 1000 s) + 200 of them after t, 2,300 after a year.
SAMPLES_PER_E_FOLD: Final = 200
# A run that ends leaves one that is not due yet, unless there are so many: a job may fail and be tried again for years.
MOST_SAMPLES: Final = 3_000


class Counts(NamedTuple):
    """What a run has done since its start; they never fall."""

    blocks: int = 0
    rows: int = 0
    requests: int = 0

    def since(self, before: Counts) -> Counts:
        """What was done after ``before``."""
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))


class Rates(NamedTuple):
    """Per second."""

    blocks: float
    rows: float
    requests: float


class Window:
    """The rates over the last ``WINDOW_SECS`` or so, or since the first look if that is less."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Counts]] = deque()

    def forget(self) -> None:
        """What was done so far is no measure any more."""
        self._looks.clear()

    def look(self, now: float, counts: Counts) -> Rates:
        """The rates at ``now``, in seconds of a clock that never goes back."""
        self._looks.append((now, counts))
        while len(self._looks) > 2 and now - self._looks[1][0] >= WINDOW_SECS:
            self._looks.popleft()
        then, before = self._looks[0]
        return Rates(*(done / (now - then) if now > then else 0.0 for done in counts.since(before)))


class Sample(NamedTuple):
    """What was ``done`` in the ``secs`` up to ``at``, when ``counts`` were reached, and what held it back most."""

    at: float
    secs: float
    done: Counts
    counts: Counts
    limit: str | None


class Sampler:
    """What is kept of a run for good, about one sample for each ``SAMPLES_PER_E_FOLD``-th of the time so far."""

    def __init__(self, now: float) -> None:
        self._began = self._taken_at = now
        self._taken = Counts()
        self._limits: Counter[str | None] = Counter()

    def look(self, now: float, counts: Counts, limit: str | None) -> Sample:
        """What a sample would hold now."""
        self._limits[limit] += 1
        [(most, _)] = self._limits.most_common(1)
        return Sample(now, now - self._taken_at, counts.since(self._taken), counts, most)

    def due(self, sample: Sample, before_secs: float) -> bool:
        """Whether it is time; ``before_secs`` before this run began the job was sampled for the first time."""
        age = before_secs + sample.at - self._began
        return sample.secs >= max(SAMPLE_SECS, age / SAMPLES_PER_E_FOLD)

    def took(self, sample: Sample) -> None:
        """It is kept; the next one begins."""
        self._taken_at, self._taken = sample.at, sample.counts
        self._limits.clear()
