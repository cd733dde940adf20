"""Blocks that were asked for and never extracted: no row of them is not the same as no row in them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence

from ampd_ray.chain.ranges import Span
from ampd_ray.client.displays.words import blocks_of, spans_of
from ampd_ray.client.tables import Snapshot


class MissingBlocks(UserWarning):
    """Some of the blocks that were asked for have not been extracted; ``told`` says which of ``dataset``."""

    def __init__(self, told: str, dataset: str):
        super().__init__(told, dataset)
        self.told = told
        self.dataset = dataset

    def __str__(self) -> str:
        return f"{self.told}: amp.dataset({self.dataset!r}).coverage()"


def warn_of_missing(taken: Snapshot, dataset: str) -> None:
    """A single ``MissingBlocks``, at the line of the caller's own code, if the tables lack some of their blocks."""
    if taken.blocks is not None and any(taken.lacking.values()):
        warnings.warn(MissingBlocks(_told(taken.lacking, taken.blocks), dataset), stacklevel=_callers_level())


def _told(lacking: Mapping[str, Sequence[Span]], blocks: Span) -> str:
    """``logs lacks 900 to 999 of the blocks 900 to 1,000``; tables that lack the same are told together."""
    alike: dict[tuple[Span, ...], list[str]] = {}
    for table, spans in lacking.items():
        if spans:
            alike.setdefault(tuple(spans), []).append(table)
    parts = [
        f"{' and '.join(tables)} {'lacks' if len(tables) == 1 else 'lack'} {spans_of(spans)}"
        for spans, tables in alike.items()
    ]
    return f"{'; '.join(parts)} of the blocks {blocks_of(blocks)}"


def _callers_level() -> int:
    """How many calls above ``warn_of_missing`` code begins that is not ours: there, a warning is shown once a line."""
    package, frame, level = __name__.partition(".")[0], inspect.currentframe(), 0
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return max(1, level)
