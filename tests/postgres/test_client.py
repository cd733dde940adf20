"""What notebooks call, on a real database with no worker: jobs that end, and the files that count."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ampd_ray import log
from ampd_ray.chain.ranges import Span
from ampd_ray.client import Client, Job
from ampd_ray.client.progress import Progress
from ampd_ray.client.solo import local
from ampd_ray.client.summary import committed, rows_within
from ampd_ray.config import create_directories, load_settings
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.evm.schemas import SCHEMAS
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.errors import AmpdError, InvalidName, JobFailed, NotFound, SchedulerError
from ampd_ray.metadb import jobs
from ampd_ray.metadb.jobs import JobStatus
from ampd_ray.metadb.progress import JobProgress, report
from ampd_ray.store.files import open_store
from tests.fakes.tables import Table
from tests.postgres.handles import MANIFEST, NODE, REF, register_worker


@pytest.fixture
def client(pg_url: str, tmp_path: Path) -> Iterator[Client]:
    settings = load_settings(None, {"AMP_CONFIG_METADATA_DB_URL": pg_url}, solo_dir=tmp_path)
    create_directories(settings)
    with Client(settings) as client:
        client.register_dataset(REF, MANIFEST)
        yield client


@pytest.fixture
def job(client: Client) -> Job:
    """A job that is scheduled for a worker that beats no more."""
    register_worker(client)
    return client.deploy(JobDescriptor.of(REF, MANIFEST.hash, end_block="99"))


def move(client: Client, job: Job, *statuses: JobStatus, detail: dict[str, Any] | None = None) -> None:
    async def transitions() -> None:
        async with client.db.connection() as conn:
            for status in statuses:
                assert await jobs.transition(conn, job.id, status, NODE, detail if status is statuses[-1] else None)

    client.run(transitions())


async def schedule_again(client: Client, job: Job) -> None:
    """As its controller does: a run begins with a SCHEDULED event."""
    async with client.db.connection() as conn:
        await conn.execute(
            "insert into job_events (created_at, job_id, node_id, event_type, detail) "
            "select now(), job_id, node_id, event_type, detail from job_events where job_id = %s and event_type = %s",
            [job.id, "SCHEDULED"],
        )


# -- jobs -----------------------------------------------------------------------------------------------------------


def test_waiting_for_a_stopped_job_gives_a_summary_with_holes(client: Client, job: Job) -> None:
    move(client, job, JobStatus.RUNNING)
    job.stop()
    move(client, job, JobStatus.STOPPING, JobStatus.STOPPED)
    assert job.outcome(1).status is JobStatus.STOPPED
    assert job.failure() is None
    assert job.wait(1).holes == [Span(0, 99)]


def test_waiting_for_a_failed_job_raises_why_it_failed(client: Client, job: Job) -> None:
    detail = {"error_code": "LATEST_BLOCK", "error_message": "the node at example.org refused"}
    move(client, job, JobStatus.RUNNING, JobStatus.FATAL, detail=detail)
    assert job.outcome(1).status is JobStatus.FATAL
    with pytest.raises(JobFailed) as raised:
        job.wait(1)
    failure = raised.value
    assert str(failure) == f"job {job.id} ended as FATAL: the node at example.org refused [LATEST_BLOCK]"
    assert (failure.step, failure.retryable) == ("LATEST_BLOCK", False)


def test_a_wait_ends_when_its_time_is_over_and_leaves_the_job(job: Job) -> None:
    with pytest.raises(TimeoutError, match=f"job {job.id} has not ended after 0 s"):
        job.wait(0)
    assert job.status() is JobStatus.SCHEDULED


def test_a_wait_ends_when_the_job_is_removed(client: Client, job: Job) -> None:
    move(client, job, JobStatus.RUNNING, JobStatus.COMPLETED)
    job.remove()
    with pytest.raises(NotFound, match="ampd jobs list"):
        job.wait(1)


def test_a_wait_ends_with_the_solo_environment_that_the_session_started(client: Client, job: Job) -> None:
    def died() -> None:
        raise SchedulerError("the solo environment ended with exit code 137")

    client.calls.check = died
    with pytest.raises(SchedulerError, match="exit code 137"):
        job.wait()


def test_a_wait_outlives_a_database_that_drops_its_sessions(client: Client, job: Job, pg_url: str) -> None:
    looked, dropped = threading.Event(), threading.Event()

    def look(now: Progress) -> None:
        looked.set()
        assert dropped.wait(30)

    ended: list[JobStatus] = []
    waiting = threading.Thread(target=lambda: ended.append(job.outcome(60, look).status))
    waiting.start()
    assert looked.wait(30)
    with psycopg.connect(pg_url, autocommit=True) as session:
        session.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and pid <> pg_backend_pid()"
        )
        dropped.set()
        session.execute("update jobs_status set status = 'STOPPED' where job_id = %s", [job.id])
    waiting.join(60)
    assert ended == [JobStatus.STOPPED]


def test_progress_of_an_earlier_run_is_not_passed_on(client: Client, job: Job) -> None:
    async def say(blocks: int) -> None:
        async with client.db.connection() as conn:
            await report(conn, job.id, NODE, JobProgress("extracting", blocks_done=blocks))

    client.run(say(50))
    client.run(schedule_again(client, job))
    heard: list[int] = []

    def listen(now: Progress) -> None:
        heard.append(now.done)
        if len(heard) == 1:
            client.run(say(60))
        elif heard[-1] == 60 and job.status() is JobStatus.SCHEDULED:
            move(client, job, JobStatus.RUNNING, JobStatus.COMPLETED)

    job.wait(30, listen)
    assert heard[0] == 0
    assert set(heard[1:]) <= {0, 60}
    assert 60 in heard


# -- files ----------------------------------------------------------------------------------------------------------


def test_files_are_the_canonical_ones_in_block_order(client: Client, pg_url: str) -> None:
    logs = Table(client, pg_url, MANIFEST.hash)
    later = logs.add("c.parquet", 20, 29, canonical=True)
    logs.add("b.parquet", 5, 9, canonical=False)  # a branch that lost
    first = logs.add("a.parquet", 0, 9, canonical=True)
    logs.add("d.parquet", 10, 19, canonical=None)  # written, never committed
    assert client.files("_/devnet", "logs") == [first, later]
    assert client.files(DatasetRef("_", "devnet", MANIFEST.hash), "logs") == [first, later]
    rows = client.scan("devnet", "logs").to_table(columns=["block_num"])["block_num"].to_pylist()
    assert rows == [*range(10), *range(20, 30)]


def test_a_table_without_files_is_empty_and_has_its_columns(client: Client) -> None:
    assert client.files("_/devnet", "blocks") == []
    nothing = client.scan("_/devnet", "blocks")
    assert nothing.schema.equals(SCHEMAS["blocks"])
    assert nothing.count_rows() == 0


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "never-counted"])
def test_a_summary_counts_the_rows_of_its_range_in_files_that_reach_out_of_it(
    client: Client, pg_url: str, counted: bool
) -> None:
    for name, last in (("blocks", 39), ("logs", 19)):
        table = Table(client, pg_url, MANIFEST.hash, name)
        for start in range(0, last, 10):
            table.add(f"{start}.parquet", start, start + 9, canonical=True)
        table.add("other.parquet", 10, 19, canonical=False)  # a branch that lost
    if counted:
        with psycopg.connect(pg_url) as session:
            session.execute("update ampd_ray.segment set row_count = 10")
    for span, blocks, logs in (
        (Span(0, 39), 40, 20),
        (Span(5, 34), 30, 15),
        (Span(12, 13), 2, 2),
        (Span(90, 99), 0, 0),
    ):
        found = client.run(committed(client.db, REF, span, ("blocks", "logs")))
        store = open_store(client.settings.data_dir)
        rows = client.run(rows_within(client.db, store, found, span, ("blocks", "logs")))
        assert rows == {"blocks": blocks, "logs": logs}


def test_what_does_not_exist_is_named(client: Client) -> None:
    with pytest.raises(NotFound, match=r"_/mainnet.*ampd datasets list` or client\.datasets\(\)"):
        client.scan("mainnet", "logs")
    with pytest.raises(NotFound, match="blocks, transactions, logs"):
        client.files("_/devnet", "traces")
    with pytest.raises(InvalidName):
        client.files("_/Dev Net", "logs")


def test_the_log_of_a_solo_environment_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "FILE_BYTES", 4)
    monkeypatch.setenv("AMP_CONFIG_POLL_INTERVAL_SECS", "never")  # so that it ends at once
    (tmp_path / "solo.log").write_text("of long ago")
    with pytest.raises(AmpdError, match="poll_interval_secs"):  # said by the process, or by this one if it looks first
        local(tmp_path)
    assert (tmp_path / "solo.log.1").read_text() == "of long ago"
    assert "of long ago" not in (tmp_path / "solo.log").read_text()


# -- without Ray ----------------------------------------------------------------------------------------------------


def test_a_kernel_that_uses_the_client_never_imports_ray(pg_url: str, tmp_path: Path) -> None:
    (tmp_path / "amp.toml").write_text(f'[metadata_db]\nurl = "{pg_url}"\n')
    for name in ("data", "providers", "manifests"):
        (tmp_path / name).mkdir()
    code = (
        "import sys; import ampd_ray as amp\n"
        "assert amp.local and amp.backfill and amp.Summary and amp.Job\n"
        "with amp.connect(sys.argv[1]) as client:\n"
        "    client.jobs(), client.workers(), client.datasets(), client.providers()\n"
        "assert 'ray' not in sys.modules and 'typer' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "amp.toml")], check=True, timeout=60)
