"""Which blocks stand for a range, and what they say of all of it: stratified sampling, pure.

The blocks are cut into strata of one size, and in each a short run of consecutive blocks is taken where chance has it.
So whatever grows or shrinks along the chain is in the estimate; only what is left of it between neighbours is spread.
The first and the last block are looked at as well, and stand for nobody but themselves: block 0 is like no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random

from ampd_ray.chain.ranges import Span, merge

RUN_BLOCKS = 2  # consecutive ones; more would tell less than others elsewhere
Z90 = 1.6449  # standard errors on either side that hold 90 %
LEAST_SPREAD = 0.01  # standard error, relative: a sample in which all are alike is no proof
LIKELIHOOD_OF_NONE = 0.1  # what is in so many blocks would be missed with this probability


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the interval that holds the true one nine times in ten."""

    value: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Estimate:
        """What is known."""
        return cls(value, value, value)

    @classmethod
    def about(cls, value: float, spread: float, z: float = Z90) -> Estimate:
        """With a relative standard error. What cannot be negative errs by factors: wider above than below."""
        factor = math.exp(z * math.sqrt(math.log1p(spread * spread)))
        return cls(value, value / factor, value * factor)

    @property
    def spread(self) -> float:
        """The relative standard error."""
        return math.sqrt(math.expm1((math.log(self.high / self.low) / 2 / Z90) ** 2)) if self.low > 0 else 0.0

    def times(self, factor: float) -> Estimate:
        """So many times as much."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, more: float) -> Estimate:
        """So much more, which is known."""
        return Estimate(self.value + more, self.low + more, self.high + more)

    def blurred(self, spread: float) -> Estimate:
        """The same after a step that errs by itself: independent errors add in squares."""
        wider = Estimate.about(self.value, math.hypot(self.spread, spread))
        return Estimate(self.value, min(self.low, wider.low), max(self.high, wider.high))


def together(parts: Iterable[Estimate]) -> Estimate:
    """The sum of figures that err together, as those of one sample do."""
    found = list(parts)
    return Estimate(*(sum(getattr(each, name) for each in found) for name in ("value", "low", "high")))


@dataclass(frozen=True, slots=True)
class Stratum:
    """``run`` is looked at, for all of ``blocks``: merged spans, which it is part of."""

    blocks: tuple[Span, ...]
    run: Span

    def __len__(self) -> int:
        return sum(map(len, self.blocks))


def choose(spans: Sequence[Span], samples: int) -> list[Stratum]:
    """Ascending strata that cover ``spans``, with about ``samples`` blocks in their runs: all, if there are no more.

    The same question is answered with the same blocks.
    """
    axis = _Axis(spans)
    if axis.length <= max(samples, 2):
        return [Stratum((span,), span) for piece in axis.spans for span in _pieces(piece)]
    count = max(1, (samples - 2) // RUN_BLOCKS)
    inner = axis.length - 2
    count = min(count, inner)
    edges = [1 + inner * i // count for i in range(count + 1)]
    rng = Random(f"{axis.spans[0].start} {axis.spans[-1].end} {axis.length}")  # noqa: S311 - which blocks, no secret
    between = [axis.stratum(low, high, rng) for low, high in pairwise(edges)]
    first, last = axis.spans[0].start, axis.spans[-1].end
    return [
        Stratum((Span(first, first),), Span(first, first)),
        *between,
        Stratum((Span(last, last),), Span(last, last)),
    ]


def _pieces(span: Span) -> list[Span]:
    starts = range(span.start, span.end + 1, RUN_BLOCKS)
    return [Span(start, min(start + RUN_BLOCKS - 1, span.end)) for start in starts]


class _Axis:
    """Blocks by their position among those of all spans."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = merge(spans)
        self._starts = [0, *accumulate(map(len, self.spans))]
        self.length = self._starts[-1]

    def stratum(self, low: int, high: int, rng: Random) -> Stratum:
        """That of the positions ``low`` to ``high``, excluded; its run ends where its span does."""
        blocks = tuple(self._within(low, high))
        at = rng.randrange(low, max(low + 1, high - RUN_BLOCKS + 1))
        (first,) = self._within(at, at + 1)
        home = next(span for span in blocks if first.start in span)
        return Stratum(blocks, Span(first.start, min(first.start + RUN_BLOCKS - 1, home.end)))

    def _within(self, low: int, high: int) -> list[Span]:
        found = []
        for start, span in zip(self._starts, self.spans, strict=False):
            a, b = max(low, start), min(high, start + len(span))
            if a < b:
                found.append(Span(span.start + a - start, span.start + b - 1 - start))
        return found


def reaching(strata: Sequence[Stratum], seen: Sequence[bool]) -> list[int]:
    """For each stratum the one that stands for it: itself, or the nearest of those that were looked at."""
    looked = [i for i, there in enumerate(seen) if there]
    return [min(looked, key=lambda other: abs(other - i)) for i in range(len(strata))]


def total(weights: Sequence[int], looked: Sequence[int], counts: Sequence[float]) -> Estimate:
    """What all blocks have, if run ``i`` of ``looked[i]`` blocks has ``counts[i]`` and stands for ``weights[i]``.

    The spread between neighbours is that of second differences, which a steady trend leaves out.
    """
    means = [count / blocks for count, blocks in zip(counts, looked, strict=True)]
    value = sum(weight * mean for weight, mean in zip(weights, means, strict=True))
    open_ = [i for i in range(len(means)) if weights[i] > looked[i]]  # the others are known
    if not open_:
        return Estimate.exactly(value)
    hits = sum(means[i] > 0 for i in open_)
    if not hits:
        unseen = 1 - LIKELIHOOD_OF_NONE ** (1 / sum(looked))
        return Estimate(value, value, value + unseen * sum(weights[i] for i in open_))
    if value == 0:
        return Estimate.exactly(0)
    variances = [
        weights[i] ** 2 * (1 - looked[i] / weights[i]) * squared
        for i, squared in zip(open_, _squares([means[i] for i in open_]), strict=True)
    ]
    rare = math.sqrt((1 - hits / len(open_)) / hits)  # of how many have any
    spread = max(math.sqrt(sum(variances)) / value, rare, LEAST_SPREAD)
    return Estimate.about(value, spread, _quantile(_freedom(variances)))


def _squares(means: Sequence[float]) -> list[float]:
    """The variance of each mean, judged by its neighbours; the ends have those of the ones beside them."""
    if len(means) == 1:
        return [means[0] ** 2]
    if len(means) == 2:
        return [(means[0] - means[1]) ** 2 / 2] * 2
    inner = [(means[i - 1] - 2 * means[i] + means[i + 1]) ** 2 / 6 for i in range(1, len(means) - 1)]
    return [inner[0], *inner, inner[-1]]


def _freedom(variances: Sequence[float]) -> float:
    """How many independent ones they are worth (Satterthwaite): few, where a few strata have most of it.

    The square of each is three times too large on average, and neighbours share blocks, which doubles it nearly.
    """
    squares = 1.94 / 3 * sum(each * each for each in variances)
    return max(1.5, sum(variances) ** 2 / squares) if squares else len(variances)


def _quantile(freedom: float) -> float:
    """Student's t for 90 %, by its expansion."""
    z, n = Z90, freedom
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n * n)
