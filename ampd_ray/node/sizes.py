"""How many actors a node may have."""

from __future__ import annotations

from dataclasses import dataclass

from ampd_ray.config import AmpdRay

LOCAL_CPUS = 4  # at least, of a Ray of our own, however few cores there are: fetching waits
MOST_EXTRACTORS = 64  # of a worker in a cluster, which may grow: about what one coordinator feeds (docs/scale.md)


@dataclass(frozen=True)
class Sizes:
    """Upper bounds of both pools, and how many extractors stay without work: all of them, unless told otherwise."""

    extractors: int
    writers: int
    fewest: int | None = None

    @classmethod
    def of(cls, cpus: float, for_writers: float, ours: AmpdRay) -> Sizes:
        """Where the configuration leaves it open, by the CPUs of the cluster, and those of it that writers may take."""
        writers = ours.writers or max(1, int(min(cpus / 4, for_writers / ours.writer_cpus)))
        extractors = ours.extractors or max(1, int((cpus - writers * ours.writer_cpus - 1) / ours.extractor_cpus))
        return cls(extractors=extractors, writers=writers)

    def elastic(self, ours: AmpdRay) -> Sizes:
        """The same in a cluster, which may grow, and is not ours alone."""
        most = ours.extractors or max(MOST_EXTRACTORS, ours.min_extractors)
        return Sizes(extractors=most, writers=self.writers, fewest=ours.min_extractors)
