"""How many actors a node may have."""

from __future__ import annotations

from dataclasses import dataclass

from ampd_ray.config import AmpdRay

LOCAL_CPUS = 4  # at least, of a Ray of our own, however few cores there are: fetching waits


@dataclass(frozen=True)
class Sizes:
    """Upper bounds of both pools."""

    extractors: int
    writers: int

    @classmethod
    def of(cls, cpus: float, for_writers: float, ours: AmpdRay) -> Sizes:
        """Where the configuration leaves it open, by the CPUs of the cluster, and those of it that writers may take."""
        writers = ours.writers or max(1, int(min(cpus / 4, for_writers / ours.writer_cpus)))
        extractors = ours.extractors or max(1, int((cpus - writers * ours.writer_cpus - 1) / ours.extractor_cpus))
        return cls(extractors=extractors, writers=writers)
