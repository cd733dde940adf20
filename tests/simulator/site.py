"""A database of the server, with its clock in our hands, and the connections to it: for one run after the other."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.rows import namedtuple_row

from ampd_ray.datasets.manifest import Manifest, evm_rpc_manifest
from ampd_ray.metadb.schema import migrate
from tests.servers import GRANTS, WORKER, as_user
from tests.simulator.chain import NETWORK
from tests.simulator.wire import Locks, Wire

WIRES = 16
TABLES = ("blocks", "logs")
MANIFEST: Manifest = evm_rpc_manifest(NETWORK)

CLOCK = """
create schema sim;
grant usage on schema sim to public;
create function sim.now() returns timestamptz language sql stable
    as $$ select current_setting('sim.now')::timestamptz $$;
create function sim.clock_timestamp() returns timestamptz language sql stable
    as $$ select current_setting('sim.now')::timestamptz $$;
"""
RESET = """
delete from physical_tables; delete from file_metadata; delete from physical_table_revisions; delete from jobs;
delete from workers; delete from ampd_ray.node_lease; delete from ampd_ray.location_lease;
delete from ampd_ray.file_intent; delete from ampd_ray.segment; delete from ampd_ray.tombstone;
delete from ampd_ray.job_state; delete from ampd_ray.job_progress;
delete from ampd_ray.job_rate;
select setval('workers_id_seq', 1, false), setval('jobs_id_seq', 1, false), setval('job_events_id_seq', 1, false),
       setval('file_metadata_id_seq', 1, false);
"""
REVISION = """
with r as (
    insert into physical_table_revisions (id, path, metadata)
    values (%(id)s, %(path)s, jsonb_build_object('table_name', %(table)s::text)) returning id
)
insert into physical_tables (dataset_namespace, dataset_name, manifest_hash, table_name, active_revision_id)
select '_', 'simulated', %(hash)s, %(table)s, id from r
"""


class Site:
    """A database and the connections to it, for one run after the other."""

    def __init__(self, server_url: str, name: str, *, exclusion: bool):
        self.exclusion = exclusion
        self.url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        self._runs = 0
        with psycopg.connect(server_url, autocommit=True) as conn:
            conn.execute(f"create database {name}".encode())
        made = asyncio.run(migrate(self.url, exclusion=exclusion, grants=GRANTS))
        assert made.exclusion is exclusion
        self.admin = psycopg.connect(self.url, autocommit=True, prepare_threshold=0, row_factory=namedtuple_row)
        self.admin.execute(CLOCK, prepare=False)
        self.wires = asyncio.run(self._connect())

    async def _connect(self) -> list[Wire]:
        wires = []
        locks = Locks(self.admin)
        for _ in range(WIRES):
            wire: Wire = await Wire.connect(
                as_user(WORKER, self.url), autocommit=True, prepare_threshold=0, row_factory=namedtuple_row,
                options="-c search_path=sim,pg_catalog,public -c timezone=UTC -c lock_timeout=0 -c statement_timeout=0",
            )  # fmt: skip
            wire.prepared_max = None
            wire.locks = locks
            wires.append(wire)
        return wires

    def reset(self) -> None:
        """An empty database with the revisions of one dataset."""
        self._runs += 1
        self.admin.execute(RESET, prepare=False)
        for at, table in enumerate(TABLES, 1):
            path = f"_/simulated/{table}/r{at}"
            self.admin.execute(REVISION, {"id": at, "path": path, "table": table, "hash": MANIFEST.hash})
        if self._runs % 100 == 0:
            self.admin.execute("vacuum", prepare=False)

    def close(self) -> None:
        self.admin.close()
        for wire in self.wires:
            wire.pgconn.finish()
