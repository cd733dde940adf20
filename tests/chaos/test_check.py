"""The checker finds what is wrong: each invariant broken by hand, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.schema import migrate
from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check import TABLES, check, read_files
from tests.chaos.check.__main__ import main
from tests.fakes.bench import Bench
from tests.fakes.devnet import Devnet
from tests.fakes.site import empty_database
from tests.servers import Server

LAST = 60
pytestmark = pytest.mark.parametrize("devnet", [LAST], indirect=True)


@pytest.fixture
def url(embedded: Server) -> Iterator[str]:
    with empty_database(embedded) as fresh:
        yield fresh


@pytest.fixture
async def good(url: str, tmp_path: Path, devnet: Devnet) -> str:
    """The URL of a database in which everything is well."""
    await migrate(url)
    db = Database(url)
    await db.open()
    bench = Bench(db, tmp_path, devnet, options=WriterOptions(segment_blocks=20))
    run = await bench.job(end_block=str(LAST))
    assert await run() == JobOutcome(Outcome.COMPLETED)
    await bench.move(run.id, JobStatus.COMPLETED)
    await bench.close()
    await db.close()
    assert check(url, "_/devnet", 0, LAST) == []
    return url


def execute(url: str, statement: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement.encode()).rowcount


def first_file(url: str, table: str = "logs") -> Path:
    with psycopg.connect(url) as connection:
        return next(file.path for file in read_files(connection, "_/devnet") if file.table == table)


BROKEN = {
    "a file is registered no more": ("delete from file_metadata where metadata ->> 'table' = 'logs'", {"I1", "I7"}),
    "a segment is off the chain": ("update ampd_ray.segment set canonical = false where lower(blocks) = 0", {"I1"}),
    "a segment is missing": ("delete from ampd_ray.segment where lower(blocks) = 0", {"I1", "I2", "I6"}),
    "a row tells another size": ("update file_metadata set object_size = object_size + 1", {"I2"}),
    "a row tells another checksum": ("update ampd_ray.segment set sha256 = sha256(sha256)", {"I2"}),
    "a row tells another count": ("update ampd_ray.segment set row_count = row_count + 1", {"I2"}),
    "a row tells other blocks": (
        "update file_metadata set metadata = jsonb_set(metadata, '{ranges,0,numbers,end}', '7')", {"I1", "I2"},
    ),
    "a status came from nowhere": ("update jobs_status set status = 'RUNNING'", {"I5"}),
    "a step was not allowed": (
        "update job_events set event_type = 'STOPPING' where event_type = 'RUNNING'", {"I5"},
    ),
    "an epoch fell": ("update ampd_ray.segment set epoch = 2 where lower(blocks) = 0", {"I6"}),
    "an epoch was never granted": ("update ampd_ray.location_lease set epoch = 0", {"I6"}),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
async def test_what_is_broken_is_found(good: str, what: str) -> None:
    statement, expected = BROKEN[what]
    assert execute(good, statement) > 0
    found = {problem[:2] for problem in check(good, "_/devnet", 0, LAST)}
    assert found >= expected


@pytest.mark.parametrize(("detail", "problems"), [('{"reassigned_from": "worker-2"}', 0), ("null", 1)])
async def test_a_job_runs_once_more_only_when_it_changes_hands(good: str, detail: str, problems: int) -> None:
    execute(good, "update job_events set id = 1000 where event_type = 'COMPLETED'")
    again = "insert into job_events (id, job_id, node_id, event_type, detail) select 999, id, node_id, 'RUNNING', "
    execute(good, f"{again} '{detail}'::jsonb from jobs")
    assert len(check(good, "_/devnet", 0, LAST)) == problems


@pytest.mark.parametrize("table", TABLES)
async def test_lost_and_changed_objects_are_found(good: str, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = first_file(good, table)
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    assert any("checksum" in problem for problem in check(good, "_/devnet", 0, LAST))
    path.unlink()
    assert any("missing" in problem for problem in check(good, "_/devnet", 0, LAST))
    assert main([good, "_/devnet", "0", str(LAST)]) == 1
    assert "I2" in capsys.readouterr().out


async def test_blocks_beyond_the_chain_are_missed(good: str) -> None:
    assert {problem[:2] for problem in check(good, "_/devnet", 0, LAST + 1)} == {"I1"}
    assert {problem[:2] for problem in check(good, "_/devnet", 1, LAST)} == {"I1"}
