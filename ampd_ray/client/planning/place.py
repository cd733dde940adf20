"""Where a backfill would run: what exists is looked at, and nothing is made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ampd_ray.chain.ranges import Span, subtract
from ampd_ray.client.planning.estimate import Target
from ampd_ray.client.planning.pace import BEGIN_SECS, START_SECS
from ampd_ray.client.prepare import provided, slug_of, unfinished
from ampd_ray.client.request import BackfillRequest, Probe
from ampd_ray.client.session import Client
from ampd_ray.client.solo import DATABASE, inspect
from ampd_ray.client.summary import committed
from ampd_ray.config import Settings, load_settings, local_path
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.datasets.tables import TABLES
from ampd_ray.errors import AmpdError, NotFound
from ampd_ray.materialize.state import TASKS_PER_EXTRACTOR, memory_for
from ampd_ray.materialize.types import WriterOptions
from ampd_ray.node.sizes import LOCAL_CPUS, Sizes
from ampd_ray.providers.provider import ProviderConfig
from ampd_ray.providers.registry import list_providers


@dataclass(frozen=True)
class Place:
    """The settings that would hold, and a session with the database if there is one; ``why_not`` if it is away."""

    settings: Settings
    client: Client | None = field(default=None, repr=False)
    why_not: str | None = None

    @property
    def running(self) -> bool:
        """True if a worker is there to take the job."""
        return self.client is not None and any(worker.alive for worker in self.client.workers())

    def provider(self, request: BackfillRequest, network: str) -> tuple[str | None, ProviderConfig]:
        """The provider as the backfill would ask it, its variables replaced, and the name of its file if there is one.

        Raises ``ConfigError`` for variables that are not set.
        """
        slug = slug_of(network)
        directory = local_path(self.settings.providers_dir)
        there = list_providers(self.settings.providers_dir) if directory is None or directory.is_dir() else []
        same = provided(there, slug, network, request)
        config = same or ProviderConfig(name=slug, network=network, **request.provider_keys())
        return None if same is None else same.name, config.resolved(os.environ)

    def span(self, request: BackfillRequest, found: Probe, network: str) -> Span:
        """The blocks that are meant; those of an unfinished backfill with the same relative range, if there is one."""
        name = DatasetRef("_", slug_of(network))
        earlier = None if self.client is None else self.client.run(unfinished(self.client, name, network, request))
        return earlier or request.resolved(found)

    def missing(self, request: BackfillRequest, network: str, span: Span) -> Mapping[str, Sequence[Span]]:
        """What each table lacks of ``span`` in the dataset that the backfill would fill."""
        tables = request.tables or TABLES
        lacking = {table: [span] for table in tables}
        if self.client is None:
            return lacking
        dataset = DatasetRef("_", slug_of(network), evm_rpc_manifest(network, span.start).hash)
        try:
            there = self.client.run(committed(self.client.db, dataset, span, tables))
        except NotFound:
            return lacking
        return {table: subtract(span, there[table].covered) if table in there else [span] for table in tables}

    def target(self, request: BackfillRequest, config: ProviderConfig) -> Target:
        """What decides how long it takes."""
        ours, options = self.settings.ampd_ray, WriterOptions.of(self.settings.writer)
        cores = os.cpu_count() or 1
        cpus = max(LOCAL_CPUS, cores)
        sizes = Sizes.of(cpus, cpus, ours)
        return Target(
            writers=min(request.writers, sizes.writers) if ours.address is None else request.writers,
            segment_bytes=options.segment_bytes,
            row_group_bytes=options.row_group_bytes,
            flush_secs=self.settings.writer.segment_flush_interval_secs,
            memory_bytes=ours.memory_bytes or memory_for(TASKS_PER_EXTRACTOR * sizes.extractors),
            per_minute=config.rate_limit_per_minute,
            in_flight=config.concurrent_request_limit,
            extractors=sizes.extractors,
            cores=cores if ours.address is None else None,
            begin_secs=BEGIN_SECS if self.running else BEGIN_SECS + START_SECS,
        )


@contextmanager
def existing(client: Client | None, config: Path | None, directory: Path) -> Iterator[Place]:
    """The place of ``client``, else the database of ``config``, else the solo environment in ``directory``.

    One that has not been made yet is none. The Postgres of one that does not run is started for as long as this takes.
    """
    if client is not None:
        yield Place(client.settings, client)
        return
    settings = load_settings(config, os.environ, solo_dir=None if config else directory)
    if config is None and settings.metadata_db.url is None and not (directory / DATABASE).is_dir():
        yield Place(settings)
        return
    try:
        session = Client(settings) if config else inspect(directory)
    except AmpdError as error:
        yield Place(settings, why_not=error.message)
        return
    with session:
        yield Place(settings, session)
