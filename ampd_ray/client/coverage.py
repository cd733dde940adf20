"""What is there of a dataset, block by block: the facts behind every coverage picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ampd_ray.chain.ranges import Span


@dataclass(frozen=True)
class TableCoverage:
    """One table over the blocks of its :class:`Coverage`; all spans are sorted, disjoint and clipped to it.

    ``covered``: in a committed, canonical file, whether or not the block has rows. ``unverified``: those of them that
    were written without a check of hashes and roots. ``quarantined``: set aside since no provider has them right, and
    not covered. ``missing``: the rest.
    """

    covered: Sequence[Span]
    unverified: Sequence[Span]
    quarantined: Sequence[Span]
    missing: Sequence[Span]

    @property
    def blocks(self) -> int:
        """How many blocks are covered."""
        return sum(map(len, self.covered))


@dataclass(frozen=True)
class Coverage:
    """A dataset's tables over ``start`` to ``end`` (included); ``dataset`` is ``namespace/name``.

    Without ``blocks`` given it reaches from the dataset's first block to the last one that is covered or asked for.
    ``end`` is ``start - 1`` while nothing is.
    """

    dataset: str
    network: str
    start: int
    end: int
    tables: Mapping[str, TableCoverage]

    def as_json(self) -> dict[str, Any]:
        """What ``ampd coverage --json`` prints: ``[first, last]`` a span."""
        return {
            "dataset": self.dataset,
            "network": self.network,
            "start": self.start,
            "end": self.end,
            "tables": {
                name: {
                    kind: [[span.start, span.end] for span in getattr(table, kind)]
                    for kind in ("covered", "unverified", "quarantined", "missing")
                }
                for name, table in self.tables.items()
            },
        }
