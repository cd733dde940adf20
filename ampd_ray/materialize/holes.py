"""Blocks that a job does without, kept in Postgres until somebody asks for them again (``spec/data.md`` 9.4)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ampd_ray.chain.ranges import Span, merge
from ampd_ray.errors import AmpdError
from ampd_ray.materialize.faults import evidence
from ampd_ray.materialize.patience import patiently
from ampd_ray.materialize.setup import JobSpec, Opened
from ampd_ray.metadb import quarantine
from ampd_ray.metadb.connection import Database

logger = logging.getLogger(__name__)


class Holes:
    """Those of the dataset that a job extracts; ``spans`` as they were loaded and added to."""

    def __init__(self, db: Database, spec: JobSpec):
        self.spans: list[Span] = []
        self._db = db
        self._spec = spec
        self._group = quarantine.group_of(spec.descriptor)

    async def load(self) -> None:
        """Read them anew."""
        async with self._db.connection() as conn:
            self.spans = merge(Span(block, block) for block in await quarantine.blocks(conn, self._group))

    async def take_back(self, opened: Opened) -> bool:
        """Ask for all of them again, if no table of the dataset has a good block beside them; whether that is so.

        Tables that another run of the job filled lack them too, and would be incomplete in silence. Raises Fenced
        without our leases.
        """
        epochs, incarnation = _epochs(opened), self._spec.incarnation
        forgotten = await patiently(
            lambda: quarantine.forget(self._db, self._group, epochs=epochs, incarnation=incarnation)
        )
        if forgotten:
            self.spans = []
        return forgotten

    async def add(self, opened: Opened, block: int, faults: Mapping[int, AmpdError]) -> None:
        """Do without ``block``, for ``faults`` by the number of the provider. Raises Fenced without our leases."""
        told = evidence({opened.providers[provider]: error for provider, error in faults.items()})
        epochs, incarnation = _epochs(opened), self._spec.incarnation
        await patiently(
            lambda: quarantine.put(self._db, self._group, block, told, epochs=epochs, incarnation=incarnation)
        )
        self.spans = merge([*self.spans, Span(block, block)])
        facts = {"job_id": self._spec.job_id, "retry": f"ampd jobs retry {self._spec.job_id} --quarantined"}
        logger.error("block %d is set aside, the job goes on: %s", block, told[0]["message"], extra=facts)


def _epochs(opened: Opened) -> dict[int, int]:
    return {location.location_id: location.epoch for location in opened.locations}
