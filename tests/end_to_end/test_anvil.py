"""A real client's growing chain with all transaction types, followed by a worker that is killed half-way."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pyarrow.parquet as pq
import pytest

from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import TABLES, check, read_files
from tests.fakes.anvil import Anvil
from tests.fakes.anvil_txs import KINDS, Sender
from tests.fakes.site import Site, make_site, register, wait_until
from tests.fakes.worker import Worker, end_all, of_ray_itself
from tests.reference import Row, comparable, reference_rows
from tests.servers import Server, fresh_database

LAST = 200
KILL_AT = 80
GONE_WITHIN_SECS = 15.0
pytestmark = [pytest.mark.anvil, pytest.mark.timeout(400)]


def test_a_growing_chain_survives_a_kill_in_the_middle(
    anvil: Callable[..., Anvil], tmp_path: Path, embedded: Server
) -> None:
    node = anvil()
    with fresh_database(embedded) as url:
        site = make_site(tmp_path / "site", url, node.url, network="anvil")
        first = Worker(site, "worker-1")
        second: Worker | None = None
        try:
            first.up()
            with site.client() as client:
                job = client.deploy(register(client, "anvil", "anvil"))
                growing = threading.Thread(target=grow, args=(node,), daemon=True)
                growing.start()
                wait_until(lambda: top(site) >= KILL_AT, 120, "half of the chain")
                assert growing.is_alive()
                tree = first.kill()
                second = Worker(site, "worker-1")
                assert_gone(tree)
                second.up()
                growing.join()
                wait_until(lambda: top(site) >= LAST, 120, "the whole chain")
                assert job.status() is JobStatus.RUNNING
                job.stop()
                assert job.outcome(60).status is JobStatus.STOPPED
        finally:
            for worker in filter(None, (first, second)):
                worker.end()
        assert check(url, "_/anvil", 0, LAST) == []
        assert_rows_equal(site, node)


def grow(node: Anvil) -> None:
    """Mine to block ``LAST``, each block with one transaction of every type."""
    sender = Sender(node)
    wait_until(node.head, what="the contract's block")
    sender.grow(LAST - node.head())


def top(site: Site) -> int:
    """The highest block that every table has, -1 if there is none."""
    statement = """
        select min(top) from (
            select coalesce(max(upper(s.blocks)) - 1, -1) as top
            from physical_tables t left join ampd_ray.segment s on s.location_id = t.active_revision_id
            group by t.table_name) tops"""
    with psycopg.connect(site.url) as connection:
        row = connection.execute(statement).fetchone()
    return -1 if row is None or row[0] is None else int(row[0])


def assert_gone(tree: list[psutil.Process]) -> None:
    """What the killed driver leaves ends by itself within seconds, every actor included.

    Only two agents of Ray's own may stay for a minute: they try to reach its dead control service.
    """
    started = time.monotonic()
    agents = [process for process in tree if of_ray_itself(process)]
    ours = [process for process in tree if process not in agents]
    _, alive = psutil.wait_procs(ours, GONE_WITHIN_SECS)
    print(f"{len(ours)} processes gone after {time.monotonic() - started:.1f} s")
    end_all(agents)
    assert alive == []


def assert_rows_equal(site: Site, node: Anvil) -> None:
    """Every row of all tables is what the plain, slow decoder makes of the node's answers."""
    expected = reference_rows([answer(node, number) for number in range(LAST + 1)])
    assert Counter(row["type"] for row in expected["transactions"])[3] >= LAST - 2
    assert {row["type"] for row in expected["transactions"]} == set(KINDS)
    with psycopg.connect(site.url) as connection:
        files = read_files(connection, "_/anvil")
    for table in TABLES:
        found: list[Row] = []
        for file in sorted((f for f in files if f.table == table), key=lambda f: f.first or 0):
            found += comparable(pq.read_table(file.path))
        assert len(found) == len(expected[table])
        for ours, theirs in zip(found, expected[table], strict=True):
            assert ours == theirs


def answer(node: Anvil, number: int) -> dict[str, Any]:
    return {
        "block": node.call("eth_getBlockByNumber", hex(number), True),
        "receipts": node.call("eth_getBlockReceipts", hex(number)),
    }
