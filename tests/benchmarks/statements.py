"""What a committed segment costs Postgres: statements, counted at the server by ``pg_stat_statements``.

Of two backfills only the difference counts, so that what each does once falls away. What the clock makes, as
heartbeats, is a fraction of a statement for each segment, and goes when the statements of a segment are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from ampd_ray.client import Client
from ampd_ray.metadb.embedded import EmbeddedPostgres
from tests.benchmarks.backfill import load_server, place, warm
from tests.benchmarks.many_jobs import ended
from tests.fakes.site import register, wait_until

MIX: Final = "mainnet"  # of few blocks to a task
EACH_TASK: Final = "[writer]\nbytes = 1\n"  # is a segment
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

Counts = dict[str, tuple[float, ...]]  # of each statement without its constants: calls, milliseconds, bytes of WAL
Database = psycopg.Connection[Any]


def measure(committed: Sequence[int], idle_secs: float = 10.0) -> dict[str, Any]:
    """Compare backfills of two numbers of blocks, and a node without jobs to one with jobs that wait."""
    segments: list[int] = []
    seen: list[Counts] = []
    with place(EACH_TASK) as amp_dir, load_server(MIX, max(committed)) as url:
        counting(amp_dir)
        with warm(amp_dir, url) as client, uncounted(client) as database:
            client.add_provider("counted", kind="evm-rpc", network="counted", url=url)
            for blocks in committed:
                before = int(_value(database, SEGMENTS))
                seen.append(_during(database, partial(_extract, client, database, blocks)))
                segments.append(int(_value(database, SEGMENTS)) - before)
            idle = _per_second(database, idle_secs)
            _follow(client, database, max(committed) - 1)
            waiting = _per_second(database, idle_secs)
    of_segment = {
        text: tuple(each / (segments[1] - segments[0]) for each in counts)
        for text, counts in _less(seen[1], seen[0]).items()
    }
    record: dict[str, Any] = {
        "segments": segments,
        "statements_a_segment": sum(round(calls) for calls, _, _ in of_segment.values()),
        "unrounded": round(sum(calls for calls, _, _ in of_segment.values()), 1),
        "server_ms_a_segment": round(sum(ms for calls, ms, _ in of_segment.values() if round(calls)), 2),
        "wal_kb_a_segment": round(sum(wal for calls, _, wal in of_segment.values() if round(calls)) / 1000, 1),
        "idle_statements_per_s": round(idle, 2),
        "waiting_job_statements_per_s": round((waiting - idle) / WAITING, 2),
        "top": _top({text: calls for text, (calls, _, _) in of_segment.items()}),
    }
    print("\n".join(f"{calls:6.2f} a segment  {text}" for text, calls in record["top"].items()), flush=True)
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


def _during(database: Database, work: Callable[[], object]) -> Counts:
    before = _counts(database)
    work()
    return _less(_counts(database), before)


def _per_second(database: Database, secs: float) -> float:
    """All statements from one heartbeat to another; beats say by the database's clock how much time has passed."""
    first = _beat(database, _value(database, LAST_BEAT))
    counts = _during(database, partial(_beat, database, first + timedelta(seconds=secs)))
    lasted: timedelta = _value(database, LAST_BEAT) - first
    return sum(calls for calls, _, _ in counts.values()) / lasted.total_seconds()


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


def _beat(database: Database, after: datetime) -> datetime:
    """Wait for a heartbeat; when it was."""
    wait_until(lambda: _value(database, LAST_BEAT) > after, what="a heartbeat")
    beat: datetime = _value(database, LAST_BEAT)
    return beat


def _counts(database: Database) -> Counts:
    return {text: tuple(counts) for text, *counts in database.execute(COUNTED)}


def _less(after: Counts, before: Counts) -> Counts:
    nothing = (0.0, 0.0, 0.0)
    return {
        text: tuple(a - b for a, b in zip(counts, before.get(text, nothing), strict=True))
        for text, counts in after.items()
    }


def _top(calls: dict[str, float]) -> dict[str, float]:
    most = sorted(calls, key=lambda text: -calls[text])[:TOP]
    return {" ".join(text.split())[:100]: round(calls[text], 2) for text in most}


def _value(database: Database, query: str, *values: object) -> Any:
    row = database.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]
