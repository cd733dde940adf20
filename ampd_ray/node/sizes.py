"""How many actors a node may have."""

from __future__ import annotations

from dataclasses import dataclass

LOCAL_CPUS = 4  # at least, of a Ray of our own, however few cores there are: fetching waits


@dataclass(frozen=True)
class Sizes:
    """Upper bounds of both pools."""

    extractors: int
    writers: int

    @classmethod
    def of(cls, cpus: int, extractors: int | None) -> Sizes:
        """By the CPUs of the cluster; ``extractors`` as configured."""
        writers = max(1, cpus // 4)
        return cls(extractors=extractors or max(1, cpus - writers - 1), writers=writers)
