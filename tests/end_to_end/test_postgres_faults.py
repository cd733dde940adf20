"""A real worker behind a real PgBouncer, whose server restarts: said aloud, survived, each block there once."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import check
from tests.fakes.devnet import devnet as run_devnet
from tests.fakes.own_postgres import Stop, own_postgres
from tests.fakes.pgbouncer import pgbouncer, pgbouncer_or_skip
from tests.fakes.site import make_site, register, wait_until
from tests.fakes.worker import Worker

PART = 200
LAST = 3 * PART
RESUMED_SECS = 10.0
SAID = "a pooler in transaction mode stands before the metadata database"

pytestmark = pytest.mark.timeout(200)


def test_a_worker_behind_a_pooler_outlives_a_restart_of_its_database(tmp_path: Path) -> None:
    pgbouncer_or_skip()
    with ExitStack() as stack:
        server = stack.enter_context(own_postgres())
        url = stack.enter_context(pgbouncer(server.url, server_login_retry=1))  # of itself it waits for 15 s
        chain = stack.enter_context(run_devnet(PART))
        site = make_site(tmp_path / "site", url, chain.url)
        worker = Worker(site, "worker-1")
        stack.callback(worker.end)
        worker.up()
        assert worker.log().count(SAID) == 1
        client = stack.enter_context(site.client())
        job = client.deploy(register(client, "eth").model_copy(update={"end_block": str(LAST)}))
        wait_until(lambda: tip(server.url) > 0, what="something committed")

        for height, how in ((PART, Stop.FAST), (2 * PART, Stop.IMMEDIATE)):
            server.stop(how)
            chain.mine(PART)  # meanwhile
            server.start()
            resumed = time.monotonic()
            wait_until(lambda height=height: tip(server.url) > height, RESUMED_SECS, "the job goes on")  # type: ignore[misc]
            print(f"after {how.name.lower()}: resumed within {time.monotonic() - resumed:.1f} s")

        assert job.outcome(60).status is JobStatus.COMPLETED
        assert worker.drain() == 0
        assert [event.event_type for event in job.events()] == ["SCHEDULED", "RUNNING", "COMPLETED"]
        assert check(server.url, "_/eth", 0, LAST) == []


def tip(url: str) -> int:
    """The highest block that is committed."""
    with psycopg.connect(url) as connection:
        row = connection.execute("select max(upper(blocks)) - 1 from ampd_ray.segment").fetchone()
    return int(row[0] or -1) if row else -1
