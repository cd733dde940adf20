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
