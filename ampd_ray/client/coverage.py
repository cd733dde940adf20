"""What is there of a dataset, block by block: the facts behind every coverage picture."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ampd_ray.chain.ranges import Span
from ampd_ray.client.displays.coverage import coverage_text
from ampd_ray.client.displays.coverage_svg import coverage_svg


@dataclass(frozen=True)
class TableCoverage:
    """One table over the blocks of its :class:`Coverage`; all spans are sorted, disjoint and clipped to it.

    ``covered``: in a committed, canonical file, whether or not the block has rows. ``unverified``: those of them that
    were written without a check of all hashes and roots. ``quarantined``: set aside since no provider has them right,
    and not covered. ``missing``: the rest.
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
    ``end`` is ``start - 1`` while nothing is. It shows itself as a picture, in notebooks as an SVG.
    """

    dataset: str
    network: str
    start: int
    end: int
    tables: Mapping[str, TableCoverage]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return coverage_text(self, shutil.get_terminal_size().columns)

    def _repr_html_(self) -> str:
        return coverage_svg(self)

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
