"""The checker of a world: whatever is broken by hand is found, each invariant by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ampd_ray.materialize.types import JobOutcome, Outcome, WriterOptions
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.schema import migrate
from ampd_ray.metadb.statuses import JobStatus
from tests.chaos.check.checker import Checker, Look
from tests.chaos.check.objects import STAGING
from tests.chaos.check.processes import MOST, Use, Uses, staging
from tests.chaos.check.story import Story, judge
from tests.fakes.ampd import CANARY
from tests.fakes.bench import Bench
from tests.fakes.devnet import Devnet, devnet
from tests.fakes.site import empty_database
from tests.servers import Server

LAST = 40
DATASETS = {"_/devnet": (0, LAST)}
GOOD = Story(seed=1, injected={"kill": 1}, recovered_secs=3.0, within_secs=5.0, calm=[(7, 2), (8, 2)], late=[])


@pytest.fixture
def url(embedded: Server) -> Iterator[str]:
    with empty_database(embedded) as fresh:
        yield fresh


@pytest.fixture
def chain() -> Iterator[Devnet]:
    with devnet(LAST) as running:
        yield running


@pytest.fixture
async def checker(url: str, tmp_path: Path, chain: Devnet, monkeypatch: pytest.MonkeyPatch) -> Checker:
    """Of a database in which a job has run well."""
    monkeypatch.setattr("tests.chaos.check.checker.SWEPT_SECS", 0.0)
    await migrate(url)
    db = Database(url)
    await db.open()
    bench = Bench(db, tmp_path, chain, options=WriterOptions(segment_blocks=20))
    run = await bench.job(end_block=str(LAST))
    assert await run() == JobOutcome(Outcome.COMPLETED)
    await bench.move(run.id, JobStatus.COMPLETED)
    await bench.close()
    await db.close()
    (tmp_path / "logs").mkdir()
    made = Checker(url, chain.url, tmp_path / "data", [tmp_path / "logs"], CANARY)
    assert made.look(Look(DATASETS, [os.getpid()], GOOD, full=True))["problems"] == []
    return made


def found(checker: Checker, *, full: bool = False) -> set[str]:
    return {problem[:2] for problem in checker.look(Look(DATASETS, full=full))["problems"]}


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute(statement.encode()).rowcount > 0


def revision(url: str, data_dir: Path) -> tuple[int, Path]:
    """One of the revisions, and where its objects are."""
    with psycopg.connect(url) as connection:
        row = connection.execute("select id, path from physical_table_revisions order by id").fetchone()
    assert row is not None
    return row[0], data_dir / row[1]


async def test_an_object_that_nobody_knows_is_found(checker: Checker, url: str, tmp_path: Path) -> None:
    location, directory = revision(url, tmp_path / "data")
    (directory / "000000000-0000000000000000.parquet").touch()
    assert found(checker) == {"I3"}
    announce = f"insert into ampd_ray.file_intent values ({location}, '000000000-0000000000000000.parquet', "
    execute(url, announce + "1, null, now(), null)")
    assert found(checker) == set()  # it is on its way
    assert found(checker, full=True) == {"I3"}
    execute(url, "update ampd_ray.location_lease set epoch = 5, expires_at = now() + interval '1 min'")
    assert found(checker) == {"I3"}  # a sweep should have taken it
    execute(url, "update ampd_ray.file_intent set swept_at = now()")
    assert found(checker) == set()  # a late writer's; it is looked for again
    execute(url, f"insert into ampd_ray.tombstone select 'file://{directory}/' || file_name, location_id "
            "from ampd_ray.file_intent")  # fmt: skip
    assert found(checker, full=True) == set()


async def test_what_is_left_in_staging_is_found(checker: Checker, url: str, tmp_path: Path) -> None:
    location, _ = revision(url, tmp_path / "data")
    left = tmp_path / "data" / STAGING / str(location) / "1" / "left.parquet"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    assert found(checker, full=True) == {"I3"}
    execute(url, "update ampd_ray.location_lease set epoch = 5, expires_at = now() + interval '1 min'")
    assert found(checker) == {"I3"}


async def test_rows_of_another_branch_are_found(checker: Checker, chain: Devnet) -> None:
    assert found(checker, full=True) == set()
    chain.reorg(3)
    assert found(checker, full=True) == {"I4"}


async def test_a_node_whose_hashes_are_wrong_is_found(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.consensus import Rebuilt, rebuild

    def otherwise(*rows: Any) -> Rebuilt:
        built = rebuild(*rows)
        return Rebuilt(bytes(32), built.transactions_root, bytes(32), built.transaction_hashes)

    monkeypatch.setattr("tests.chaos.check.chain.rebuild", otherwise)
    checker.dump.distrust()
    assert found(checker, full=True) == {"I4"}


async def test_a_job_that_waits_for_a_dead_node_is_found(checker: Checker, url: str) -> None:
    for table in (
        "workers set heartbeat_at = heartbeat_at",
        "jobs_status set status = 'RUNNING', updated_at = updated_at",
    ):
        execute(url, f"update {table} - interval '1 min'")
    execute(url, "delete from job_events where event_type = 'COMPLETED'")
    assert found(checker) == {"I5"}


@pytest.mark.parametrize("table", ["location_lease", "node_lease"])
async def test_an_epoch_that_falls_between_two_looks_is_found(checker: Checker, url: str, table: str) -> None:
    execute(url, "insert into ampd_ray.node_lease values ('x', 9, gen_random_uuid(), now())")
    execute(url, "update ampd_ray.location_lease set epoch = 9")
    assert found(checker) == set()
    execute(url, f"update ampd_ray.{table} set epoch = 8")
    assert found(checker) == {"I6"}


async def test_an_object_that_vanished_after_it_was_seen_is_found(checker: Checker, url: str, tmp_path: Path) -> None:
    _, directory = revision(url, tmp_path / "data")
    next(directory.iterdir()).unlink()
    assert found(checker) == {"I2"}


PLACES: dict[str, Callable[[str, Path], object]] = {
    "a log": lambda _, at: (at / "logs" / "x.log").write_text(f"connecting to postgresql://me:{CANARY}@host"),
    "a row": lambda url, _: execute(url, f'update workers set info = \'{{"url": "{CANARY}"}}\''),
    "a row, as bytes": lambda url, _: execute(url, f"update footer_cache set footer = '{CANARY}'"),
    "a file": lambda url, at: next(revision(url, at / "data")[1].iterdir()).write_text(CANARY),
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_secret_is_found_wherever_it_is(checker: Checker, url: str, tmp_path: Path, place: str) -> None:
    PLACES[place](url, tmp_path)
    assert "I9" in found(checker, full=True)


def test_a_process_that_uses_too_much_or_more_and_more_is_found() -> None:
    pid = [os.getpid()]
    assert list(Uses(MOST).look(pid)) == []
    for most in (Use(1, 999, 999), Use(1 << 40, 1, 999), Use(1 << 40, 999, 0)):
        assert [problem[:2] for problem in Uses(most).look(pid)] == ["I8"]
    uses = Uses(MOST, growth=Use(1 << 40, 3, 99))
    assert list(uses.look(pid)) == []
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    assert ["descriptors" in problem for problem in uses.look(pid)] == [True]
    for each in opened:
        os.close(each)


def test_a_full_staging_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(11))
    assert list(staging(tmp_path, 11)) == []
    assert [problem[:2] for problem in staging(tmp_path, 10)] == ["I8"]


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        ({"recovered_secs": 5.1}, "I10"),
        ({"recovered_secs": None}, "I10"),
        ({"late": ["something"]}, "I10"),
        ({"calm": [(7, 2), (7, 2)]}, "I11"),
        ({"calm": [(7, 2), (9, 3)]}, "I11"),
        ({"calm": [(7, 2)]}, "I11"),
        ({"injected": {"kill": 1, "pause": 0}}, "I12"),
        ({"injected": {}}, "I12"),
    ],
)
def test_a_story_that_ends_badly_is_found(change: dict[str, Any], invariant: str) -> None:
    assert list(judge(GOOD)) == []
    assert [problem.split()[0] for problem in judge(Story(**{**GOOD, **change}))] == [invariant]  # type: ignore[typeddict-item]
