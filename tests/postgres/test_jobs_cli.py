"""``ampd jobs`` on a real database: rows that anybody may have written, and a stop that takes long."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from ampd_ray.cli.app import app
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb import jobs, workers
from ampd_ray.metadb.connection import Database
from tests.servers import run_apart


@pytest.fixture
def config(pg_url: str, tmp_path: Path) -> Path:
    """The configuration of a database with one job that is scheduled, on a node that does nothing."""

    async def schedule() -> None:
        db = Database(pg_url)
        await db.open()
        async with db.connection() as conn:
            await workers.register(conn, "one", {})
        await jobs.schedule(db, JobDescriptor.of(DatasetRef("_", "x"), "a" * 64), "one")
        await db.close()

    run_apart(schedule)
    for name in ("data", "providers", "manifests"):
        (tmp_path / name).mkdir()
    path = tmp_path / "amp.toml"
    path.write_text(f'[metadata_db]\nurl = "{pg_url}"\n')
    return path


def ampd(config: Path, *words: str) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        app([*words, "--config", str(config)])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "descriptor",
    [
        {"kind": "materialize-raw", "dataset_name": "x"},
        {"dataset_namespace": None, "dataset_name": ["x"], "end_block": {"a": 1}},
        ["no", "object"],
        "text",
        7,
        None,
    ],
    ids=str,
)
def test_a_descriptor_may_be_any_json(
    config: Path, pg_url: str, descriptor: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(pg_url) as session:
        session.execute("update job_events set detail = %s::jsonb", [json.dumps(descriptor)])
    assert ampd(config, "jobs", "list") == 0
    assert ampd(config, "jobs", "list", "--json") == 0
    assert ampd(config, "jobs", "show", "1") == 0
    capsys.readouterr()
    assert ampd(config, "jobs", "show", "1", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["dataset"], shown["descriptor"]) == (None, descriptor)


def test_a_stop_that_takes_longer_than_the_wait_shows_the_row_and_says_so(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ampd(config, "jobs", "stop", "1", "--wait", "0.01", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == {"job_id": 1, "status": "STOP_REQUESTED"}
    assert said.err == "error: job 1 is still stopping after 0.01 s; see `ampd jobs progress 1`\n"


def set_aside(pg_url: str, *blocks: int) -> None:
    """As a job does with blocks that no provider delivers correctly."""
    with psycopg.connect(pg_url) as session:
        for block in blocks:
            session.execute(
                "insert into ampd_ray.quarantine (location_group, block, reason, provider, evidence) "
                "values (%s, %s, 'two receipts are missing', 'alchemy', '[]')",
                [f"_/x@{'a' * 64}", block],
            )


def test_holes_are_seen_in_every_list(config: Path, pg_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_aside(pg_url, 7, 9)
    assert ampd(config, "jobs", "list") == 0
    header, line = capsys.readouterr().out.splitlines()
    assert line.split()[header.split().index("HOLES") - 1] == "2"  # JOB ID is two words
    for words in (["list"], ["show", "1"], ["progress", "1"]):
        assert ampd(config, "jobs", *words, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert (said[0] if words == ["list"] else said)["holes"] == 2
    assert ampd(config, "jobs", "holes", "1") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["BLOCK", "7", "9", "ask"]
    assert "alchemy" in said[1]
    assert said[1].endswith("two receipts are missing")
    assert said[-1].endswith("ampd jobs retry 1 --quarantined")
    assert ampd(config, "jobs", "holes", "1", "--json") == 0
    assert [hole["block"] for hole in json.loads(capsys.readouterr().out)] == [7, 9]


def test_a_job_without_holes_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ampd(config, "jobs", "holes", "1") == 0
    assert capsys.readouterr().out == "job 1 has no holes\n"


def test_only_a_job_that_has_ended_is_tried_again(
    config: Path, pg_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_aside(pg_url, 7)
    assert ampd(config, "jobs", "retry", "1", "--quarantined") == 1
    assert "job 1 is SCHEDULED on one: try again when it has ended" in capsys.readouterr().err
    with psycopg.connect(pg_url) as session:
        session.execute("update jobs_status set status = 'COMPLETED'")
    assert ampd(config, "jobs", "retry", "1", "--json") == 0
    again = {"job_id": 1, "node_id": "one", "status": "SCHEDULED"}
    assert json.loads(capsys.readouterr().out) == again | {"holes": 1}
    with psycopg.connect(pg_url) as session:
        session.execute("update jobs_status set status = 'COMPLETED'")
    assert ampd(config, "jobs", "retry", "1", "--quarantined", "--json") == 0
    assert json.loads(capsys.readouterr().out) == again | {"holes": 0, "asked_again": 1}


def test_a_retry_needs_a_worker(config: Path, pg_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_aside(pg_url, 7)
    with psycopg.connect(pg_url) as session:
        session.execute("update jobs_status set status = 'COMPLETED'")
        session.execute("update workers set heartbeat_at = now() - interval '1 min'")
    assert ampd(config, "jobs", "retry", "1", "--quarantined") == 1
    assert "error: " in capsys.readouterr().err
    assert ampd(config, "jobs", "show", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["holes"] == 1
