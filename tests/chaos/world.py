"""Everything that runs while there is chaos: a server, a chain, workers, one job for all schedules and one for each."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ampd_ray.client import Client
from ampd_ray.client.job import Job
from ampd_ray.controller.thread import RetryThread
from ampd_ray.metadb.embedded import EmbeddedPostgres
from ampd_ray.metadb.postmaster import Postmaster
from ampd_ray.metadb.schema import migrate
from tests.chaos.nodes import Node, Nodes
from tests.chaos.surroundings import Surroundings
from tests.fakes.ampd import CANARY
from tests.fakes.site import Site, add_provider, make_site, register
from tests.servers import GRANTS, WORKER, as_user, make_roles

CALM, VICTIM = "calm", "victim"  # networks, each with a provider of its own
LOOK_EVERY_SECS = 0.1
ANSWER_SECS = 60.0
POLL_SECS = 0.25
GROUP = "chaos"


class Late(Exception):
    """Something did not come true within its bound."""


class World:
    """Made by ``world``; every wait in it tends the workers."""

    def __init__(self, directory: Path, around: Surroundings, postgres: EmbeddedPostgres, site: Site) -> None:
        self.directory = directory
        self.around = around
        self.postgres = postgres
        self.site = site
        self.nodes = Nodes()
        self.fired = directory / "fired"
        self.fired.mkdir()
        self.keep = True  # the directory, until all is known to be well
        self._client: Client | None = None
        self._connection: psycopg.Connection[Any] | None = None

    # -- looking ----------------------------------------------------------------------------------------------------

    def until(self, holds: Callable[[], Any], within: float, what: str) -> Any:
        """Look again and again until ``holds`` gives something true, which is returned; raises ``Late``."""
        deadline = time.monotonic() + within
        while not (found := holds()):
            self.nodes.tend()
            if time.monotonic() > deadline:
                raise Late(f"{what}: not within {within:g} s")
            time.sleep(LOOK_EVERY_SECS)
        return found

    def ask(self, statement: str, *values: Any) -> list[Any]:
        """Rows from the database, past all lines; a server that restarts is waited for."""
        deadline = time.monotonic() + ANSWER_SECS
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self.site.url, autocommit=True, connect_timeout=5)
                return self._connection.execute(statement.encode(), values).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_EVERY_SECS)

    def node_of(self, job: Job) -> Node:
        """The node that a job is on."""
        ((node_id,),) = self.ask("select node_id from jobs_status where job_id = %s", job.id)
        return self.nodes[node_id]

    def status(self, job: Job) -> str:
        ((status,),) = self.ask("select status from jobs_status where job_id = %s", job.id)
        return str(status)

    def covered(self, dataset: str) -> int:
        """The highest committed block of a dataset of ours, in the table that has least; -1 without any."""
        ((top,),) = self.ask(
            "select min(top) from (select coalesce(max(upper(s.blocks)), 0) - 1 as top from physical_tables t "
            "left join ampd_ray.segment s on s.location_id = t.active_revision_id and s.canonical "
            "where t.dataset_name = %s group by t.id) each",
            dataset,
        )
        return -1 if top is None else int(top)

    def is_one_chain(self, dataset: str) -> bool:
        """True if each of its live files follows the one before: what a reorg replaced is mended."""
        ((breaks,),) = self.ask(
            "select count(*) from (select s.start_parent, lag(s.end_hash) over (partition by s.location_id "
            "order by lower(s.blocks)) as parent from physical_tables t "
            "join ampd_ray.segment s on s.location_id = t.active_revision_id and s.canonical "
            "where t.dataset_name = %s) each where start_parent <> parent",
            dataset,
        )
        return bool(breaks == 0)

    def all_up(self) -> bool:
        """True while every worker takes jobs."""
        return all(node.up for node in self.nodes.values())

    def any_up(self) -> bool:
        """True while at least one does."""
        return any(node.up for node in self.nodes.values())

    # -- doing ------------------------------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """A session of the product's own, past all lines."""
        if self._client is None:
            self._client = Client(self.site.settings())
        return self._client

    def deploy(self, dataset: str, network: str, first: int, last: int | None) -> Job:
        """Have blocks ``first`` to ``last`` extracted, or all that will ever be, by whichever node."""
        descriptor = register(self.client, dataset, network, first)
        end = None if last is None else str(last)
        return self.client.deploy(descriptor.model_copy(update={"end_block": end}))

    def stop_postgres(self, number: signal.Signals) -> int:
        """Stop the server as told; the process that it was."""
        running = Postmaster.read(self.postgres.data_dir)
        assert running is not None
        os.kill(running.pid, number)
        self.until(lambda: not self.postgres.running(), ANSWER_SECS, "Postgres stopped")
        return running.pid

    def close(self) -> None:
        """End the workers and the sessions."""
        self.nodes.close()
        if self._client is not None:
            self._client.close()
        if self._connection is not None:
            self._connection.close()


def of_its_own_ray(here: World, node_id: str, env: Mapping[str, str]) -> Node:
    """A worker that starts a Ray for itself."""
    return Node(here.site, node_id, env, here.directory)


Start = Callable[[World, str, Mapping[str, str]], Node]


@contextmanager
def world(node_ids: tuple[str, ...], start: Start = of_its_own_ray, **ours: Any) -> Iterator[World]:
    """A world with these workers coming up; its directory is left behind, and named, if it is to be kept.

    ``ours`` are keys of ``[ampd_ray]``.
    """
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    postgres, around = EmbeddedPostgres(directory / "db"), Surroundings()
    made: World | None = None
    try:
        url = postgres.start()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
        make_roles(url)
        asyncio.run(migrate(url, grants=GRANTS))
        url = as_user(WORKER, url)
        with around.running(url, node_ids):
            made = World(directory, around, postgres, _site(directory / "site", url, around, ours))
            try:
                for node_id in node_ids:
                    env = {
                        "AMP_CONFIG_METADATA_DB__URL": _through(url, around.lines[node_id].port),
                        "AMP_CONFIG_POLL_INTERVAL_SECS": str(POLL_SECS),
                    }
                    made.nodes[node_id] = start(made, node_id, env)
                with RetryThread(made.site.settings()):
                    yield made
            finally:
                made.close()
    finally:
        with suppress(Exception):
            postgres.stop(patience=1.0)
        if made is not None and made.keep:
            print(f"logs, data and database are in {directory}", flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _site(directory: Path, url: str, around: Surroundings, ours: Mapping[str, Any]) -> Site:
    """Short intervals, so that what is left behind is swept within a schedule; secrets wherever one may stand."""
    writer = {"collector.min_interval": 1.0, "collector.deletion_lock_duration": 1.0}
    keys: dict[str, Any] = {"failover_group": GROUP, "extractors": 1, "retry_max_secs": 1.0, **ours}
    site = make_site(directory, url, around.node_url, network="none", writer=writer, **keys)
    for network, line in ((CALM, around.calm), (VICTIM, around.victim)):
        add_provider(site, network, f"http://127.0.0.1:{line.port}/{CANARY}", auth_token=CANARY)
    return site


def _through(url: str, port: int) -> str:
    """The database by way of a line, with a password that must be seen nowhere."""
    info = conninfo_to_dict(url)
    return f"postgresql://{info['user']}:{CANARY}@127.0.0.1:{port}/{info['dbname']}?sslmode=disable"
