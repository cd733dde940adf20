"""What is still done on a Ray node that is about to go: the pure decision, from the seconds that are left.

Extractors end what they have under way as long as there is time. Then they ask for no more blocks, and take those that
they have asked for; then they hand back what is not done, at a block boundary, so that the rows still travel to their
writers while the node is there. Writers begin nothing, and commit what they have in time. A worker whose coordinator is
there begins nothing either, waits for the tasks under way, and then drains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

UNHURRIED_SECS: Final = 120.0  # for a node that nobody gives a time; that of a spot machine at AWS
ANSWERS_SECS: Final = 10.0  # for requests in flight: most answer within one
TRAVEL_SECS: Final = 10.0  # for rows on their way to a writer: some tasks of 16 MiB for each extractor
COMMIT_SECS: Final = 20.0  # to close, upload and commit what is open


@dataclass(frozen=True, slots=True)
class Leave:
    """When to do what, in seconds from now. If time is short, all of it gets its share of what there is.

    ``ends``: until then a worker that drains waits for the tasks of its extractors, who may be on other nodes.
    """

    ask_no_more: float
    hand_back: float
    commit: float
    gone: float
    ends: float = 0.0

    @classmethod
    def within(cls, secs: float | None) -> Self:
        """``secs`` are left; None: nobody says how many."""
        left = UNHURRIED_SECS if secs is None else max(0.0, secs)
        travel, answers = min(TRAVEL_SECS, left / 3), min(ANSWERS_SECS, left / 3)
        return cls(
            ask_no_more=max(0.0, left - travel - answers),
            hand_back=left - travel,
            commit=left - min(COMMIT_SECS, left / 2),
            gone=left,
            ends=min(ANSWERS_SECS, left / 3),
        )
