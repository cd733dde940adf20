"""Files that a dataset has from before: rows and (empty) objects just as a writer of ours leaves them, fast."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from ampd_ray.chain.ranges import BlockRange
from ampd_ray.client import Client
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.materialize.encode import footer_metadata
from ampd_ray.materialize.write import WRITER_VERSION
from ampd_ray.metadb import revisions
from ampd_ray.store.layout import file_name
from tests.benchmarks.load.blocks import FIRST_SECONDS, SECS_A_BLOCK, block_hash

_COPY = "copy file_metadata (location_id, file_name, metadata, object_size, object_e_tag, url) from stdin"


def register_files(client: Client, descriptor: JobDescriptor, network: str, count: int) -> dict[str, int]:
    """Blocks 0 to ``count - 1`` of the load server, one in each file of all tables; the revisions' ids by table.

    The job that opens these revisions adds the files to the index, as it does with those of an Amp writer.
    """
    found: dict[str, int] = {}
    dataset = (descriptor.dataset_namespace, descriptor.dataset_name, descriptor.manifest_hash)
    with psycopg.connect(client.settings.metadata_db.dsn(), autocommit=True) as connection:
        for table in TABLES:
            revision = client.run(revisions.open_revision(client.db, *dataset, table))
            found[table] = revision.location_id
            directory = Path(client.settings.data_dir) / revision.path
            directory.mkdir(parents=True)
            with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                for row in _rows(table, revision.location_id, network, directory, count):
                    copy.write_row(row)
        connection.execute("analyze file_metadata")  # as has happened where so many files came one by one
    return found


def _rows(table: str, location_id: int, network: str, directory: Path, count: int) -> Iterator[tuple[Any, ...]]:
    """One row for each block, and its object."""
    created_ns = time.time_ns() - count
    for number in range(count):
        hash_, parent = (bytes.fromhex(block_hash(each)[2:]) for each in (number, number - 1))
        name = file_name(
            location_id=location_id,
            network=network,
            start=number,
            end=number,
            start_parent=parent,
            end_hash=hash_,
            generation=0,
            writer_version=WRITER_VERSION,
            epoch=0,
        )
        range_ = BlockRange(network, number, number, hash_, parent, FIRST_SECONDS + SECS_A_BLOCK * number)
        described = footer_metadata(
            table=table, filename=name, created_ns=created_ns + number, range_=range_, parents=[], generation=0
        )
        (directory / name).touch()
        yield location_id, name, described["nozzle_metadata"], 0, f"bench-{number}", f"{directory.as_uri()}/"
