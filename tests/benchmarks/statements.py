"""What a committed segment costs Postgres: statements, counted at the server by ``pg_stat_statements``.

Of two backfills only the difference counts, so that what each does once falls away. What the clock makes, as
heartbeats and progress, is counted on a node that waits, and taken off by the seconds that the second one took longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg

from ampd_ray.client import Client
from ampd_ray.metadb.embedded import EmbeddedPostgres
from tests.benchmarks.backfill import load_server, place, warm
from tests.benchmarks.many_jobs import ended
from tests.benchmarks.usage import Usage, watched
from tests.fakes.site import register, wait_until

MIX: Final = "mainnet"  # of few blocks to a task
CONFIG: Final = """
[writer]
bytes = 1  # so that each task makes a segment
[ampd_ray]
takeover = true  # as on a cluster
"""
WAITING: Final = 5  # jobs that follow a head that stands still
WAITING_BLOCKS: Final = 20
TOP: Final = 10

COUNTED: Final = """
select query, sum(calls)::float, sum(total_plan_time + total_exec_time), sum(wal_bytes)::float
from pg_stat_statements group by query
"""
SEGMENTS: Final = "select count(*) / 3 from ampd_ray.segment"
CAUGHT_UP: Final = "select count(*) from ampd_ray.job_progress where limiting_factor = 'head' and blocks_done >= %s"
LAST_BEAT: Final = "select max(heartbeat_at) from workers"

Counts = dict[str, Any]  # of each statement without its constants an array: calls, milliseconds, bytes of WAL
Database = psycopg.Connection[Any]


def measure(committed: Sequence[int], idle_secs: float = 10.0) -> dict[str, Any]:
    """Compare backfills of two numbers of blocks, and a node without jobs to one with jobs that wait."""
    segments, secs, seen = [], [], []
    with place(CONFIG) as amp_dir, load_server(MIX, max(committed)) as url:
        counting(amp_dir)
        with warm(amp_dir, url) as client, uncounted(client) as database:
            client.add_provider("counted", kind="evm-rpc", network="counted", url=url)
            for blocks in committed:
                before, began = _value(database, SEGMENTS), time.monotonic()
                seen.append(_during(database, partial(_extract, client, database, blocks)))
                secs.append(time.monotonic() - began)
                segments.append(_value(database, SEGMENTS) - before)
            idle, idle_usage = _second(database, amp_dir, idle_secs)
            _follow(client, database, max(committed) - 1)
            waiting, waiting_usage = _second(database, amp_dir, idle_secs)
    clock = _sum(idle, _sum(waiting, idle, -1.0), 1 / WAITING)  # of a node with one job
    more = _sum(_sum(seen[1], seen[0], -1.0), clock, secs[0] - secs[1])
    each = {text: counts / (segments[1] - segments[0]) for text, counts in more.items()}
    of_segment = {text: counts for text, counts in each.items() if round(counts[0]) > 0}
    calls, milliseconds, wal_bytes = sum(of_segment.values())
    record = {
        "segments": segments,
        "statements_a_segment": sum(round(counts[0]) for counts in of_segment.values()),
        "unrounded": round(float(calls), 1),
        "server_ms_a_segment": round(float(milliseconds), 2),
        "wal_kb_a_segment": round(float(wal_bytes) / 1000, 1),
        "idle_second": _figures(idle, idle_usage),
        "waiting_jobs": WAITING,
        "waiting_second": _figures(waiting, waiting_usage),
        "top": _top(of_segment),
    }
    print("\n".join(f"{times:6.2f} a segment  {text}" for text, times in record["top"].items()), flush=True)
    return record


def counting(amp_dir: Path) -> None:
    """Have the environment's Postgres, which does not run yet, count statements."""
    postgres = EmbeddedPostgres(amp_dir / "metadb")
    try:
        with psycopg.connect(postgres.start(), autocommit=True) as database:
            database.execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
            database.execute("alter system set pg_stat_statements.track_planning = on")
            database.execute("create extension pg_stat_statements")
    finally:
        postgres.stop()


def uncounted(client: Client) -> Database:
    """A session whose own statements do not count."""
    dsn = client.settings.metadata_db.dsn()
    return psycopg.connect(dsn, autocommit=True, options="-c pg_stat_statements.track=none")


def _extract(client: Client, database: Database, blocks: int) -> None:
    """A job of so many blocks; our own waiting does not count."""
    asked = register(client, f"counted_{blocks}", "counted").model_copy(update={"end_block": str(blocks - 1)})
    ids = [client.deploy(asked).id]
    assert wait_until(partial(ended, database, ids), what="the end of a job") == ["COMPLETED"]


def _follow(client: Client, database: Database, head: int) -> None:
    """Deploy jobs without an end, and wait until they wait."""
    for first in range(head - WAITING_BLOCKS - WAITING, head - WAITING_BLOCKS):
        client.deploy(register(client, f"waiting_{first}", "counted", first))
    wait_until(lambda: _value(database, CAUGHT_UP, WAITING_BLOCKS) == WAITING, what="the head")


def _second(database: Database, amp_dir: Path, secs: float) -> tuple[Counts, dict[str, float]]:
    """What a second costs, from one heartbeat to another: by the database's clock, as they are."""
    first = _beat(database, _value(database, LAST_BEAT))
    with watched(amp_dir) as usage:
        counts = _during(database, partial(_beat, database, first + timedelta(seconds=secs)))
    lasted = (_value(database, LAST_BEAT) - first).total_seconds()
    return {text: each / lasted for text, each in counts.items()}, _cpu(usage, lasted)


def _beat(database: Database, after: datetime) -> datetime:
    """Wait for a heartbeat; when it was."""
    wait_until(lambda: _value(database, LAST_BEAT) > after, what="a heartbeat")
    beat: datetime = _value(database, LAST_BEAT)
    return beat


def _cpu(usage: Usage, secs: float) -> dict[str, float]:
    parts = {part: usage.of(part) for part in ("Coordinator", "postgres", "")}
    return {f"cpu_s_{part or 'all'}".lower(): round(spent / secs, 4) for part, spent in parts.items()}


def _figures(counts: Counts, cpu: dict[str, float]) -> dict[str, float]:
    return {"statements": round(float(sum(each[0] for each in counts.values())), 2), **cpu}


def _during(database: Database, work: Callable[[], object]) -> Counts:
    before = _counts(database)
    work()
    return _sum(_counts(database), before, -1.0)


def _counts(database: Database) -> Counts:
    return {text: np.array(counts) for text, *counts in database.execute(COUNTED)}


def _sum(counts: Counts, others: Counts, times: float) -> Counts:
    return {text: each + times * others.get(text, 0.0) for text, each in counts.items()}


def _top(counts: Counts) -> dict[str, float]:
    most = sorted(counts, key=lambda text: -counts[text][0])[:TOP]
    return {" ".join(text.split())[:100]: round(float(counts[text][0]), 2) for text in most}


def _value(database: Database, query: str, *values: object) -> Any:
    row = database.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]
