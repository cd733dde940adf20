"""The writer actor: a process that holds any number of :class:`ampd_ray.materialize.write.PartitionWriter`."""

from __future__ import annotations

import os
from functools import cached_property

from ampd_ray import log
from ampd_ray.actors.garbage import collected_if_it_fails, spare_the_collector
from ampd_ray.actors.probed import Probed
from ampd_ray.chain.ranges import Span
from ampd_ray.config import Sealed, unseal
from ampd_ray.errors import ActorLost
from ampd_ray.materialize.types import Extract, Partition, WriterReport
from ampd_ray.materialize.write import PartitionWriter
from ampd_ray.metadb.connection import Database
from ampd_ray.store.files import open_store


class WriterActor(Probed):
    """Writes partitions of any job of its node, each under its own key."""

    def __init__(self, settings: Sealed, application_name: str):
        log.setup()
        spare_the_collector()
        self._settings = settings
        self._application_name = f"{application_name}/writer"
        self._store = open_store(settings.data_dir)
        self._opened = False
        self._partitions: dict[int, PartitionWriter] = {}
        self._next_key = 0

    @cached_property
    def _db(self) -> Database:
        """Made by the first call, as the coordinator's is."""
        dsn = unseal(self._settings, os.environ).metadata_db.dsn()
        return Database(dsn, application_name=self._application_name, pool_size=4, min_connections=1)

    async def ready(self) -> int:
        """Answers once the process runs and reaches the database: its pid."""
        self._work_here(self._settings.ampd_ray.spot_notice)
        if not self._opened:
            await self._db.open()
            self._opened = True
        return os.getpid()

    async def open(self, partition: Partition) -> int:
        """Take a partition; the key for the other calls."""
        await self.ready()
        self._next_key += 1
        self._partitions[self._next_key] = PartitionWriter(partition, self._db, self._store)
        return self._next_key

    async def append(self, key: int, extract: Extract) -> WriterReport:
        """Take one extract of the partition."""
        with collected_if_it_fails():
            return await self._partition(key).append(extract)

    async def skip(self, key: int, span: Span) -> WriterReport:
        """Do without these blocks of the partition."""
        return await self._partition(key).skip(span)

    async def flush(self, key: int, reason: str) -> WriterReport:
        """Commit what the open file holds."""
        return await self._partition(key).flush(reason)

    async def discard(self, key: int) -> None:
        """Forget the partition."""
        writer = self._partitions.pop(key, None)
        if writer is not None:
            await writer.discard()

    def _partition(self, key: int) -> PartitionWriter:
        if (writer := self._partitions.get(key)) is None:
            raise ActorLost(f"partition {key} was given up at its writer; its blocks are planned again")
        return writer
