"""``python -m tests.benchmarks.restarts --times 50``: Postgres restarts under load; how soon do jobs go on?

A whole node follows a chain that grows all the time and commits several times a second; the server, as durable as any,
is restarted again and again, in turn properly and as by a crash. Measured is the time from the moment when the server
takes sessions again to the next commit of the job. In the end each block must be there once. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from ampd_ray import log
from ampd_ray.metadb.connection import Database
from tests.fakes.bench import NODE, Bench, until
from tests.fakes.devnet import devnet
from tests.fakes.own_postgres import OwnPostgres, Stop, own_postgres
from tests.fakes.pgbouncer import pgbouncer
from tests.postgres.works import Works, works

BLOCK_SECS = 0.1
RESUME_WITHIN_SECS = 60.0
LOOK_SECS = 0.005


@dataclass
class Record:
    """Seconds of each restart: until the server took sessions again, and from then until the job committed."""

    away: list[float] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """For the record."""
        return {
            "restarts": len(self.resumed),
            "away_p50_s": _quantile(self.away, 0.5),
            "resumed_p50_s": _quantile(self.resumed, 0.5),
            "resumed_p99_s": _quantile(self.resumed, 0.99),
            "resumed_max_s": _quantile(self.resumed, 1.0),
        }


def restart(server: OwnPostgres, how: Stop, record: Record) -> None:
    """Stop and start the server, and wait for the next commit."""
    stopped = time.monotonic()
    server.stop(how)
    server.start_without_waiting()
    with _first_session(server.url) as session:
        accepted = time.monotonic()
        newest = _newest(session)
        while _newest(session) == newest:
            assert time.monotonic() - accepted < RESUME_WITHIN_SECS, "the job does not go on"
            time.sleep(LOOK_SECS)
        record.resumed.append(time.monotonic() - accepted)
    record.away.append(accepted - stopped)


def _first_session(url: str) -> psycopg.Connection[Any]:
    deadline = time.monotonic() + RESUME_WITHIN_SECS
    while True:
        try:
            return psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server does not come back"
            time.sleep(LOOK_SECS)


def _newest(session: psycopg.Connection[Any]) -> int:
    row = session.execute("select coalesce(max(id), 0) from file_metadata").fetchone()
    assert row is not None
    return int(row[0])


async def measure(times: int, *, pooled: bool = False) -> dict[str, Any]:
    """The figures of so many restarts. Raises AssertionError if a block is missing, or there twice.

    ``pooled``: the node reaches the database through PgBouncer, which tries again each second.
    """
    record = Record()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ampd-")))
        server = stack.enter_context(own_postgres(root / "metadb"))  # on the disk, as its restarts are measured
        url = stack.enter_context(pgbouncer(server.url, server_login_retry=1)) if pooled else server.url
        chain = stack.enter_context(devnet(10, block_time=BLOCK_SECS))
        db = Database(url, application_name="ampd-ray/bench")
        await db.open()
        bench = Bench(db, root, chain)
        await bench.job()
        async with works(bench, url, NODE) as node:
            for number in range(times):
                await _commits(bench)
                how = (Stop.FAST, Stop.IMMEDIATE)[number % 2]
                await asyncio.to_thread(restart, server, how, record)
                print(f"{number + 1}: {how.name.lower()}, resumed after {record.resumed[-1]:.2f} s", file=sys.stderr)
            outcome = await _checked(bench, node)
        await bench.close()
        await db.close()
    return record.figures() | outcome


async def _commits(bench: Bench) -> None:
    """Wait until the job is well under way."""
    before = len(await bench.query("select 1 from file_metadata"))

    async def more() -> bool:
        return len(await bench.query("select 1 from file_metadata")) >= before + 6

    await until(more, within=RESUME_WITHIN_SECS)


async def _checked(bench: Bench, node: Works) -> dict[str, Any]:
    counters = node.coordinator.counters
    node.coordinator.ask_drain()
    assert node.task is not None
    assert await node.task == 0
    last = (await bench.canonical())[-1].range.end
    await bench.assert_exactly_once(0, last)
    return {"blocks": last + 1, "job_starts": counters.job_starts, "violations": 0}


def _quantile(values: Sequence[float], share: float) -> float:
    if len(values) == 1:
        return round(values[0], 3)
    if share == 1.0:
        return round(max(values), 3)
    return round(statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1], 3)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=50, help="restarts (default 50)")
    parser.add_argument("--pooled", action="store_true", help="with a PgBouncer in between")
    log.setup("error")  # each restart is said by ourselves
    asked = parser.parse_args()
    print(json.dumps(asyncio.run(measure(asked.times, pooled=asked.pooled))))


if __name__ == "__main__":
    main()
