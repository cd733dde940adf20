"""``ampd jobs`` on a real database: rows that anybody may have written, and a stop that takes long."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from typer.testing import CliRunner

from ampd_ray.cli import watching
from ampd_ray.cli.app import app
from ampd_ray.client.job import Job, OnProgress
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import DataFault
from ampd_ray.metadb import jobs, workers
from ampd_ray.metadb.connection import Database
from ampd_ray.metadb.jobs import JobRow
from tests.servers import as_owner, run_apart


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
    with psycopg.connect(as_owner(pg_url)) as session:
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
    assert json.loads(said.err)["error"]["code"] == "STILL_RUNNING"
    assert ampd(config, "jobs", "stop", "1", "--wait", "0.01") == 1
    said = capsys.readouterr()
    assert said.err == f"error: job 1 is still stopping after 0.01 s; see `ampd jobs watch 1 --config {config}`\n"


def set_aside(pg_url: str, *blocks: int) -> None:
    """As a job does with blocks that no provider delivers correctly."""
    with psycopg.connect(as_owner(pg_url)) as session:
        for block in blocks:
            session.execute(
                "insert into ampd_ray.quarantine (location_group, block, reason, provider, evidence) "
                "values (%s, %s, %s, 'alchemy', '[]')",
                [f"_/x@{'a' * 64}", block, f"two receipts are missing {DataFault.ADVICE}"],
            )


def test_holes_are_seen_in_every_list(config: Path, pg_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_aside(pg_url, 7, 9)
    assert ampd(config, "jobs", "list") == 0
    header, line = capsys.readouterr().out.splitlines()
    assert line.split()[header.split().index("QUARANTINED") - 1] == "2"  # JOB ID is two words
    for words in (["list"], ["show", "1"], ["progress", "1"]):
        assert ampd(config, "jobs", *words, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert (said[0] if words == ["list"] else said)["holes"] == 2
        assert (said[0] if words == ["list"] else said)["quarantined"] == 2
    assert ampd(config, "jobs", "holes", "1") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["BLOCK", "7", "9", "Ask", "ask"]
    assert "alchemy" in said[1]
    assert said[1].endswith("two receipts are missing")
    assert said[-1] == f"ask for them again: ampd jobs retry 1 --quarantined --config {config}"
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
    with psycopg.connect(as_owner(pg_url)) as session:
        session.execute("update jobs_status set status = 'COMPLETED'")
    assert ampd(config, "jobs", "retry", "1", "--json") == 0
    again = {"job_id": 1, "node_id": "one", "status": "SCHEDULED"}
    assert json.loads(capsys.readouterr().out) == again | {"quarantined": 1, "holes": 1}
    with psycopg.connect(as_owner(pg_url)) as session:
        session.execute("update jobs_status set status = 'COMPLETED'")
    assert ampd(config, "jobs", "retry", "1", "--quarantined", "--json") == 0
    assert json.loads(capsys.readouterr().out) == again | {"quarantined": 0, "holes": 0, "asked_again": 1}


def test_a_retry_needs_a_worker(config: Path, pg_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_aside(pg_url, 7)
    with psycopg.connect(as_owner(pg_url)) as session:
        session.execute("update jobs_status set status = 'COMPLETED'")
        session.execute("update workers set heartbeat_at = now() - interval '1 min'")
    assert ampd(config, "jobs", "retry", "1", "--quarantined") == 1
    assert "error: " in capsys.readouterr().err
    assert ampd(config, "jobs", "show", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["holes"] == 1


# -- watching -------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(config: Path, pg_url: str) -> tuple[Path, str]:
    """The configuration, and the address that stands in it."""
    return config, pg_url


def put(pg_url: str, status: str, *, done: int = 7, total: int | None = 9) -> None:
    """The job in a status, and its node's word on it."""
    error = json.dumps({"error_code": "RPC_REFUSED", "error_message": "HTTP 401"})
    with psycopg.connect(as_owner(pg_url)) as session:
        session.execute(
            "update jobs_status set status = %s, detail = case when %s in ('ERROR', 'FATAL') then %s::jsonb end",
            [status, status, error],
        )
        session.execute("delete from ampd_ray.job_progress")
        session.execute(
            "insert into ampd_ray.job_progress (job_id, node_id, phase, blocks_done, blocks_total, rows, bytes, "
            "rpc_requests, retries, rows_by_table, updated_at) "
            "values (1, 'one', 'extracting', %s, %s, 0, 0, 5, 0, '{}', clock_timestamp())",
            [done, total],
        )


@pytest.mark.parametrize(
    ("status", "aside", "out", "err"),
    [
        ("COMPLETED", (), "job 1 is complete: {blocks}, no holes", ""),
        ("COMPLETED", (7,), "job 1 is complete but for 1 hole; see ampd jobs holes 1 --config {config}", ""),
        ("STOPPED", (), "job 1 was stopped: {blocks}; to go on: ampd jobs retry 1 --config {config}", ""),
        ("ERROR", (), "", "error: job 1 ended as ERROR: HTTP 401 [RPC_REFUSED]"),
        ("FATAL", (), "", "error: job 1 ended as FATAL: HTTP 401 [RPC_REFUSED]"),
    ],
)
def test_watching_ends_with_the_job_and_says_how(
    database: tuple[Path, str], capsys: pytest.CaptureFixture[str], status: str, aside: tuple[int, ...], out: str,
    err: str,
) -> None:  # fmt: skip
    config, pg_url = database
    put(pg_url, status)
    set_aside(pg_url, *aside)
    assert ampd(config, "jobs", "watch", "1", "--quiet") == (0 if (status, aside) == ("COMPLETED", ()) else 1)
    said = capsys.readouterr()
    told = re.escape(out).replace(re.escape("{blocks}"), r"\d+( of \d+)? blocks")
    assert re.fullmatch(told.replace(re.escape("{config}"), re.escape(str(config))), said.out.strip()), said.out
    assert said.err.strip() == err


def test_watching_as_json_is_a_line_for_each_state(
    config: Path, pg_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(job: Job, timeout_secs: float | None = None, on_progress: OnProgress = lambda now: None) -> JobRow:
        for status, done in next(runs):
            put(pg_url, status, done=done)
            on_progress(job.progress())
        return job.row()

    runs = iter([[("RUNNING", 3), ("RUNNING", 3), ("ERROR", 5)], [("SCHEDULED", 5), ("COMPLETED", 9)]])
    monkeypatch.setattr(Job, "outcome", outcome)
    monkeypatch.setattr(watching, "POLL_SECS", 0.0)
    assert ampd(config, "jobs", "watch", "1", "--json", "--until-ended") == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["status"] for line in said] == ["RUNNING", "ERROR", "SCHEDULED", "COMPLETED"]
    assert said[0]["job_id"] == 1


def test_ctrl_c_ends_the_watching_and_not_the_job(
    config: Path, pg_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    put(pg_url, "RUNNING")
    monkeypatch.setattr(Job, "outcome", interrupt)
    assert ampd(config, "jobs", "watch", "1") == 0
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"job 1 goes on; to watch it again: ampd jobs watch 1 --config {config}"
    )
    with psycopg.connect(as_owner(pg_url)) as session:
        assert session.execute("select status from jobs_status").fetchone() == ("RUNNING",)


# -- workers, providers and a shell ---------------------------------------------------------------------------------


def test_a_worker_is_alive_draining_ended_or_dead(
    config: Path, pg_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> str:
        assert ampd(config, "workers", "list", "--json") == 0
        (worker,) = json.loads(capsys.readouterr().out)
        return str(worker["state"])

    def change(statement: LiteralString) -> None:
        with psycopg.connect(as_owner(pg_url)) as session:
            session.execute(statement)

    change("update workers set info = '{\"implementation\": \"ampd-ray\"}', heartbeat_at = now() at time zone 'utc'")
    assert state() == "alive"
    change("update workers set heartbeat_at = heartbeat_at - interval '10 s'")
    assert state() == "dead"
    change(
        "insert into ampd_ray.node_lease (node_id, epoch, incarnation, expires_at, draining) "
        "values ('one', 1, gen_random_uuid(), now() + interval '4 s', true)"
    )
    assert state() == "draining"
    change("update ampd_ray.node_lease set expires_at = now()")
    assert state() == "ended"


def test_a_provider_is_shown_without_its_secrets_and_removed_unless_a_job_is_bound_to_it(
    config: Path, pg_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET", "s3cr3t")
    url = "https://${SET}@h.example/${UNSET}"
    assert ampd(config, "providers", "add", "p", "--network", "x", "--url", url, "--auth-token", "s3cr3t") == 0
    capsys.readouterr()
    assert ampd(config, "providers", "show", "p", "--json") == 0
    said = capsys.readouterr().out
    assert "s3cr3t" not in said
    shown = json.loads(said)
    assert (shown["file"], shown["auth_token"]) == (str(config.parent / "providers" / "p.toml"), True)
    assert shown["variables"] == {"SET": True, "UNSET": False}
    with psycopg.connect(as_owner(pg_url)) as session:
        session.execute('update job_events set detail = detail || \'{"provider": "p"}\'')
    assert ampd(config, "providers", "rm", "p") == 1
    stop = f"ampd jobs stop 1 --wait 30 --config {config}"
    assert f"job 1 is bound to provider p; stop it first: {stop}" in capsys.readouterr().err
    with psycopg.connect(as_owner(pg_url)) as session:
        session.execute("update jobs_status set status = 'STOPPED'")
    assert ampd(config, "providers", "rm", "p") == 0
    assert not (config.parent / "providers" / "p.toml").exists()


def test_a_shell_completes_jobs_and_datasets_of_a_database_that_runs(config: Path) -> None:
    manifest = ["datasets", "register", "_/chain", "--network", "chain"]
    assert ampd(config, *manifest) == 0
    offers = {
        ("jobs", "watch"): ["1"],
        ("check",): ["_/chain"],
        ("sql", "--dataset"): ["_/chain"],
        ("head",): ["_/chain.blocks", "_/chain.transactions", "_/chain.logs"],
    }
    for words, offered in offers.items():
        line = ["ampd", "--config", str(config), *words, ""]
        env = {"_AMPD_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
        assert CliRunner().invoke(app, [], env=env, prog_name="ampd").stdout.split() == offered
