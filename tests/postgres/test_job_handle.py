"""A handle of any job, made at any time: what it says on a real database, with no worker but the test."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest

import ampd_ray as amp
from ampd_ray.chain.ranges import Span
from ampd_ray.client.job import OnProgress
from ampd_ray.client.job_calls import JobCalls
from ampd_ray.client.progress import Progress
from ampd_ray.config import create_directories, load_settings
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb import jobs
from ampd_ray.metadb.jobs import JobRow, JobStatus
from tests.postgres.handles import MANIFEST, NODE, REF, cover, move, register_worker, say
from tests.servers import as_owner

PINNED = DatasetRef("_", "devnet", MANIFEST.hash)
TABLES = ("blocks", "logs")


@pytest.fixture
def client(pg_url: str, tmp_path: Path) -> Iterator[amp.Client]:
    settings = load_settings(None, {"AMP_CONFIG_METADATA_DB_URL": pg_url}, solo_dir=tmp_path)
    create_directories(settings)
    with amp.Client(settings) as client:
        client.register_dataset(REF, MANIFEST)
        register_worker(client)
        yield client


@pytest.fixture
def job(client: amp.Client) -> amp.Job:
    """A job for a hundred blocks, forty of which are there."""
    for table in TABLES:
        cover(client, table, 0, 39)
    return client.deploy(JobDescriptor.of(REF, MANIFEST.hash, end_block="99", tables=TABLES))


def execute(url: str, statement: str, *values: Any) -> None:
    with psycopg.connect(as_owner(url)) as session:
        session.execute(statement.encode(), values)


# -- what it says ---------------------------------------------------------------------------------------------------


def test_a_handle_by_id_knows_what_the_job_is(client: amp.Client, job: amp.Job) -> None:
    again = client.job(job.id)
    assert (again.network, again.span, again.tables) == ("devnet", Span(0, 99), TABLES)
    assert again.dataset.ref == PINNED
    assert client.files(again.dataset, "logs") == again.dataset.files("logs") != []
    assert (again.covered_before, again.provider, again.other_provider) == (None, None, None)
    assert again.descriptor().end_block == "99"
    assert repr(again) == f"<Job {job.id}>"
    with pytest.raises(amp.NotFound, match=r"ampd jobs list` or amp\.jobs\(\)"):
        client.job(job.id + 1)


def test_its_progress_is_true_at_every_stage_of_its_life(client: amp.Client, job: amp.Job) -> None:
    say(client, job, blocks_done=70, blocks_total=100, rate=5.0)  # by a run that is about to be the one before
    move(client, job, JobStatus.RUNNING)
    job.stop()
    move(client, job, JobStatus.STOPPING, JobStatus.STOPPED)
    assert (job.progress().done, job.progress().total) == (40, 100)  # the file that was open is gone
    client.run(jobs.retry(client.db, job.id, NODE, quarantined=False))
    scheduled = job.progress()
    assert (scheduled.status, scheduled.done, scheduled.total) == (JobStatus.SCHEDULED, 40, 100)
    assert (scheduled.age_secs, scheduled.blocks_per_sec) == (None, None)
    move(client, job, JobStatus.RUNNING)
    say(client, job, blocks_done=45, blocks_total=100, rate=5.0, rows_rate=50.0, requests_rate=10.0)
    running = job.progress()
    assert (running.done, running.total, running.blocks_per_sec) == (45, 100, 5.0)
    assert (running.rows_per_sec, running.requests_per_sec) == (50.0, 10.0)
    cover(client, "blocks", 40, 99)
    cover(client, "logs", 40, 99)
    move(client, job, JobStatus.COMPLETED)
    done = job.progress()
    assert (done.done, done.total, done.share, done.blocks_per_sec) == (100, 100, 1.0, None)
    assert (done.dataset, done.node_id, done.error) == ("_/devnet", NODE, None)


def test_holes_are_those_of_its_range_and_not_done(client: amp.Client, job: amp.Job, pg_url: str) -> None:
    for block in (50, 51, 60, 500):
        execute(
            pg_url,
            "insert into ampd_ray.quarantine (location_group, block, reason, provider, evidence) "
            "values (%s, %s, 'two receipts are missing', 'alchemy', '[]')",
            f"_/devnet@{MANIFEST.hash}",
            block,
        )
    now = job.progress()
    assert (now.done, now.holes) == (40, 3)
    assert [hole.block for hole in job.holes()] == [50, 51, 60, 500]
    assert job.summary().quarantined == 3


def test_a_job_that_follows_the_head_has_no_span_and_sums_up_to_its_last_block(client: amp.Client) -> None:
    job = client.deploy(JobDescriptor.of(REF, MANIFEST.hash, tables=TABLES))
    assert job.span is None
    nothing = job.summary()
    assert (nothing.start, nothing.end, nothing.blocks, nothing.rows) == (0, -1, 0, {"blocks": 0, "logs": 0})
    cover(client, "blocks", 0, 49)
    cover(client, "logs", 0, 29)
    now, so_far = job.progress(), job.summary()
    assert (now.done, now.total, now.share) == (30, None, None)
    assert (so_far.start, so_far.end, so_far.blocks, so_far.holes) == (0, 49, 30, [Span(30, 49)])


def test_what_latest_means_is_known_when_the_node_has_said_it(client: amp.Client) -> None:
    job = client.deploy(JobDescriptor.of(REF, MANIFEST.hash, end_block="latest"))
    assert job.span is None
    move(client, job, JobStatus.RUNNING)
    say(client, job, blocks_done=0, blocks_total=51)
    assert job.span == Span(0, 50)


def test_its_failures_are_told_one_by_one(client: amp.Client, job: amp.Job) -> None:
    told = {"error_code": "RPC_REFUSED", "error_message": "the node at example.org refused"}
    move(client, job, JobStatus.RUNNING)
    move(client, job, JobStatus.FATAL, detail=told)
    (failure,) = job.failures()
    assert (failure.node_id, failure.code, failure.retryable) == (NODE, "RPC_REFUSED", False)
    assert failure.message == job.progress().error == "the node at example.org refused"
    assert [event.event_type for event in job.events()] == ["SCHEDULED", "RUNNING", "FATAL"]


# -- jobs of others ---------------------------------------------------------------------------------------------------

NAMED = {"kind": "materialize-derived", "dataset_namespace": "a", "dataset_name": "b"}


@pytest.mark.parametrize("descriptor", [None, [], {"kind": 1}, NAMED])
def test_a_job_of_somebody_else_is_shown_awaited_and_stopped(
    client: amp.Client, job: amp.Job, pg_url: str, descriptor: Any
) -> None:
    execute(pg_url, "update job_events set detail = %s::jsonb", json.dumps(descriptor))
    now = job.progress()
    assert (now.status, now.done, now.total) == (JobStatus.SCHEDULED, 0, None)
    assert now.dataset == ("a/b" if descriptor == NAMED else "")
    assert job.failures() == []
    with pytest.raises((amp.InvalidDescriptor, amp.UnsupportedJobKind)):
        _ = job.span
    move(client, job, JobStatus.RUNNING)
    job.stop()
    move(client, job, JobStatus.STOPPING, JobStatus.STOPPED)
    summary = job.wait(10)
    assert (summary.dataset, summary.blocks, summary.holes) == (now.dataset, 0, [])
    job.remove()
    with pytest.raises(amp.NotFound):
        job.progress()


def test_a_job_whose_manifest_cannot_be_read_has_a_progress(client: amp.Client, job: amp.Job, tmp_path: Path) -> None:
    (tmp_path / "manifests" / MANIFEST.hash).unlink()
    assert job.progress().dataset == "_/devnet"
    with pytest.raises(amp.ObjectMissing):
        job.summary()


def test_a_job_whose_manifests_are_out_of_reach_has_a_progress(
    client: amp.Client, job: amp.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(*_: object) -> NoReturn:
        raise amp.StoreError("the manifests cannot be read: permission denied")

    monkeypatch.setattr(client.calls, "manifest", denied)
    assert job.progress().status is JobStatus.SCHEDULED


def test_a_job_of_somebody_else_may_end_beyond_all_blocks(client: amp.Client, job: amp.Job, pg_url: str) -> None:
    execute(pg_url, "update job_events set detail = detail || %s::jsonb", json.dumps({"end_block": "9" * 20}))
    assert job.progress().status is JobStatus.SCHEDULED
    with pytest.raises(amp.InvalidDescriptor, match="99,999"):
        _ = job.span


# -- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_progress", [None, lambda now: None], ids=["silent", "told"])
def test_an_interrupt_while_waiting_leaves_the_job_as_it_is(
    client: amp.Client, job: amp.Job, on_progress: OnProgress | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(client, job, JobStatus.RUNNING)
    before, look = job.row(), JobCalls.row

    async def interrupt(calls: JobCalls) -> JobRow:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return await look(calls)

    monkeypatch.setattr(JobCalls, "row", interrupt)
    with pytest.raises(KeyboardInterrupt):
        job.wait(30, on_progress)
    monkeypatch.undo()
    assert job.row() == before
    assert [event.event_type for event in job.events()] == ["SCHEDULED", "RUNNING"]


def test_a_failed_job_that_is_tried_again_meanwhile_has_not_ended(client: amp.Client, job: amp.Job) -> None:
    move(client, job, JobStatus.RUNNING, JobStatus.ERROR)

    def retry(now: Progress) -> None:
        job.retry()

    with pytest.raises(TimeoutError):
        job.wait(0, retry)
    assert job.status() is JobStatus.SCHEDULED


def test_a_wait_ends_when_its_session_is_closed(client: amp.Client, job: amp.Job) -> None:
    seen, told = threading.Event(), threading.Event()

    def wait() -> None:
        with pytest.raises(amp.SessionClosed):
            job.wait(30, lambda now: seen.set())
        told.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert seen.wait(10)
    client.close()
    assert told.wait(10)
    waiting.join()
    with pytest.raises(amp.SessionClosed):
        job.status()


async def test_plain_calls_work_inside_a_running_loop(client: amp.Client, job: amp.Job) -> None:
    heard: list[Progress] = []
    with pytest.raises(TimeoutError, match=f"job {job.id} has not ended after 0 s"):
        job.wait(0, heard.append)
    assert heard[0].done == 40


def test_another_process_takes_the_job_up_by_its_number(
    client: amp.Client, job: amp.Job, pg_url: str, tmp_path: Path
) -> None:
    move(client, job, JobStatus.RUNNING)
    say(client, job, blocks_done=45, blocks_total=100)
    code = (
        "import sys, ampd_ray as amp\n"
        "amp.connect(sys.argv[1], data_dir=sys.argv[2] + '/data', manifests_dir=sys.argv[2] + '/manifests')\n"
        "job = amp.job(int(sys.argv[3]))\n"
        "print(job.progress().done, flush=True)\n"
        "job.stop()\n"
        "print(job.wait(30).blocks)\n"
    )
    command = [sys.executable, "-c", code, pg_url, str(tmp_path), str(job.id)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "45\n"
        while job.status() is not JobStatus.STOP_REQUESTED:
            assert other.poll() is None
        move(client, job, JobStatus.STOPPING, JobStatus.STOPPED)
        assert other.communicate(timeout=30)[0] == "40\n"
    assert other.returncode == 0
