"""Blocks that a provider delivers wrongly: who is asked next, which are set aside, when to give up.

Pure decisions (``spec/data.md`` 2.3 and 9.4). Before an error gets here, its source has fetched the block again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ampd_ray.chain.ranges import Span
from ampd_ray.errors import (
    AmpdError,
    BlockUnavailable,
    DataFault,
    MalformedResponse,
    NoGoodBlock,
    ReorgDuringFetch,
    ResponseTooLarge,
    ValueOverflow,
)

HOPELESS_BLOCKS = 10  # that nobody delivers, and more than were good of late: then it is not the blocks
HOPELESS_IN_A_ROW = 50
OF_LATE_BLOCKS = 1000
LIES = 5  # blocks in a row that others had to deliver: then one of those is asked first
SETTLED_BLOCKS = 64  # below the head; nearer to it a node that lags knows nothing of a block yet
MAX_FAULT_CHARS = 500


class Doubts:
    """What a run of a job has learned about its ``providers``, which are numbers here, the preferred one 0.

    ``quarantine``: blocks that nobody delivers are set aside, else they end the job. ``any_good``: some block of the
    dataset is there. ``settled`` is the highest block for which ``null`` is a fault and not a lag.
    """

    def __init__(self, providers: int = 1, *, quarantine: bool = False, settled: int = -1, any_good: bool = False):
        self.quarantine = quarantine
        self.settled = settled
        self.any_good = any_good
        self.first = 0
        self.barren: list[int] = []  # set aside of late
        self._good = 0
        self._in_a_row = 0
        self._providers = providers
        self._lies: Counter[int] = Counter()
        self._last: AmpdError | None = None

    def helps_against(self, error: AmpdError) -> bool:
        """True if the provider has answered, but wrongly, and there is something else to do than to ask it again."""
        if self._providers > 1 and isinstance(error, MalformedResponse) and "block" in error.details:
            return True
        return (self._providers > 1 or self.quarantine) and self._is_of_data(error)

    def may_set_aside(self, faults: Iterable[AmpdError]) -> bool:
        """True if some answer was wrong or too large, and not merely none; what none has right is nobody's fault."""
        return self.quarantine and any(map(self._is_of_data, faults))

    def _is_of_data(self, error: AmpdError) -> bool:
        if isinstance(error, BlockUnavailable | ReorgDuringFetch):  # far below the head it is no lag, and no reorg
            return bool(error.details.get("block", math.inf) <= self.settled)
        if isinstance(error, ResponseTooLarge):  # with its block it was asked for alone
            return "block" in error.details
        return isinstance(error, DataFault | ValueOverflow)

    def next_provider(self, asked: Collection[int]) -> int | None:
        """Whom to ask after those; None if it was everybody."""
        turns = ((self.first + turn) % self._providers for turn in range(self._providers))
        return next((provider for provider in turns if provider not in asked), None)

    def delivered(self, provider: int, after: Iterable[int], blocks: int) -> None:
        """So many good ``blocks`` came from ``provider``, where those ``after`` whom it was asked had failed."""
        self.any_good = True
        self._good += blocks
        self._in_a_row = 0
        if self._good + len(self.barren) > OF_LATE_BLOCKS:
            self._good //= 2
            del self.barren[: len(self.barren) // 2]
        self._lies.pop(provider, None)
        self._lies.update(list(after))
        if self._lies[self.first] >= LIES:
            self.first = provider

    def set_aside(self, block: int, error: AmpdError) -> bool:
        """Nobody delivers ``block``, ``error`` says why; False if there is no hope for any other either."""
        self.barren.append(block)
        self._last = error
        self._in_a_row += 1
        return self._in_a_row < HOPELESS_IN_A_ROW and len(self.barren) < max(HOPELESS_BLOCKS, self._good)

    def despair(self) -> NoGoodBlock:
        """For a job that finds no good block any more, or none at all."""
        what = "those that are there stay set aside" if self.any_good else "none of them is set aside"
        return NoGoodBlock(
            f"no provider has any of {len(self.barren)} blocks right, and few others were: it is not the blocks; "
            f"{what}. The last one: {self._last}",
            blocks=sorted(self.barren),
        )


def around(span: Span, block: int | None) -> tuple[list[Span], Span | None]:
    """``span`` without ``block``, and ``block`` alone; if it is not known which it is, halves."""
    if not isinstance(block, int) or not span.start <= block <= span.end:
        middle = span.start + len(span) // 2
        return [Span(span.start, middle - 1), Span(middle, span.end)], None
    sides = [(span.start, block - 1), (block + 1, span.end)]
    return [Span(first, last) for first, last in sides if first <= last], Span(block, block)


def evidence(faults: Mapping[str, AmpdError]) -> list[dict[str, Any]]:
    """What each provider, by name, had to say of a block: facts for people, bounded, hosts and no URLs."""
    return [
        {
            "provider": provider,
            "code": error.code,
            "message": error.message[:MAX_FAULT_CHARS],
            **{
                key: str(error.details[key])[:MAX_FAULT_CHARS]
                for key in ("host", "check", "rule", "field")
                if key in error.details
            },
        }
        for provider, error in faults.items()
    ]
