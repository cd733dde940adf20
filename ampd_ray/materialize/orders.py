"""What extractors and writers are told in one pass: everything that they need to know, since they know nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ampd_ray.chain.ranges import Span
from ampd_ray.materialize.index import SegmentIndex
from ampd_ray.materialize.plan import Unit
from ampd_ray.materialize.setup import JobSpec, Opened
from ampd_ray.materialize.types import Partition, RangeTask, WriterOptions


@dataclass(frozen=True)
class Orders:
    """Makes the orders of one pass. ``finalized``: the highest final block, None where the provider does not tell.

    ``wholly``: blocks that can only be verified in part are refused.
    """

    spec: JobSpec
    options: WriterOptions
    opened: Opened
    index: SegmentIndex
    finalized: int | None
    wholly: bool

    def task(self, number: int, unit: Unit, span: Span, provider: int) -> RangeTask:
        """Extract ``span`` of the partition ``number`` from the provider of this number."""
        return RangeTask(
            job_id=self.spec.job_id,
            partition=number,
            span=span,
            tables=unit.tables,
            provider=self.opened.providers[provider],
            network=self.opened.manifest.network,
            verify=self.spec.descriptor.level,
            wholly=self.wholly,
            chain_id=self.opened.chain_id,
        )

    def partition(self, number: int, unit: Unit) -> Partition:
        """Write the partition ``number``; what may be overlapped is what is registered now."""
        locations = tuple(location for location in self.opened.locations if location.table in unit.tables)
        return Partition(
            job_id=self.spec.job_id,
            node_id=self.spec.node_id,
            incarnation=self.spec.incarnation,
            number=number,
            network=self.opened.manifest.network,
            spans=(unit.span,),
            locations=locations,
            known={each.location_id: self.index.overlapped(each.table, unit.span) for each in locations},
            newest_ns=self.index.newest_ns,
            options=self.options,
            again=frozenset[int]().union(*(self.index.again(each.table, unit.span) for each in locations)),
            finalized=self.finalized,
        )
