"""How ``ampd worker`` and ``ampd solo`` end: by a signal, by two, by Ctrl-C on a terminal, by SIGKILL.

Exit codes of ``spec/metadata-db.md`` 9.4, the drain of 6, one solo environment per directory and its orphans of 9.3.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ampd_ray.actors.cluster import ASKED
from tests.fakes.ampd import AMPD, ampd, clean_env
from tests.fakes.devnet import Devnet
from tests.fakes.site import Site, add_provider, make_site, register, wait_until
from tests.fakes.worker import Worker
from tests.servers import Server, fresh_database

BLOCKS = 1_500
PER_MINUTE = 600  # as many at once, then ten a second: there is a middle, and it lasts
RAY_GONE_SECS = 60.0  # Ray's agents look for their parent every few seconds, and want to be sure


@pytest.fixture
def site(tmp_path: Path, embedded: Server, devnet_server: Callable[..., Devnet]) -> Iterator[Site]:
    """A site whose provider is slow, so that a job is under way for as long as a test wants."""
    with fresh_database(embedded) as url:
        made = make_site(tmp_path / "site", url, "")
        add_provider(made, "devnet", devnet_server(BLOCKS).url, rate_limit_per_minute=PER_MINUTE)
        yield made


@pytest.fixture
def worker(site: Site) -> Iterator[Worker]:
    """A worker that is up, with a job in the middle of its work."""
    started = Worker(site, "w1")
    try:
        started.up()
        with site.client() as client:
            descriptor = register(client, "chain").model_copy(update={"end_block": str(BLOCKS - 1)})
            job = client.deploy(descriptor)
            wait_until(lambda: job.progress().rpc_requests > 0)
        yield started
    finally:
        started.end()


def row(site: Site, query: str) -> Any:
    with psycopg.connect(site.url) as conn:
        return conn.execute(query.encode()).fetchone()


def node_is_given_up(site: Site) -> bool:
    """Draining, its lease over, its last beat in the past; its job RUNNING, for the next start to resume."""
    query = """
        select l.draining and l.expires_at <= now(), w.heartbeat_at < (now() at time zone 'utc') - interval '5 s',
               (select status from jobs_status), (select count(*) from pg_locks where locktype = 'advisory')
        from ampd_ray.node_lease l join workers w using (node_id)"""
    return bool(row(site, query) == (True, True, "RUNNING", 0))


def test_ctrl_c_reaches_the_whole_group_and_the_drain_is_complete(site: Site, worker: Worker) -> None:
    tree = worker.tree()
    os.killpg(worker.process.pid, signal.SIGINT)
    assert worker.process.wait(60) == 0, worker.log()
    assert node_is_given_up(site)
    rows, files = row(site, "select count(*), count(distinct location_id) from file_metadata")
    assert rows > 0
    assert files == 3, "what was open was committed, by a writer that did not die of the SIGINT"
    assert "Traceback" not in worker.log(), worker.log()
    assert "was lost" not in worker.log(), worker.log()
    _, alive = psutil.wait_procs(tree, RAY_GONE_SECS)
    assert alive == []
    assert not list(site.data_dir.glob(".*/**/*.parquet"))


def test_a_second_sigterm_ends_at_once(site: Site, worker: Worker) -> None:
    (writer,) = wait_until(lambda: [each for each in worker.tree() if "WriterActor" in " ".join(each.cmdline())])
    writer.suspend()  # so that the drain cannot be complete
    worker.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "draining" in worker.log())
    assert worker.process.poll() is None
    started = time.monotonic()
    assert worker.drain() == 1
    assert time.monotonic() - started < 15
    assert row(site, "select status from jobs_status") == ("RUNNING",)
    assert "Traceback" not in worker.log(), worker.log()
    psutil.wait_procs([writer], RAY_GONE_SECS)
    assert not writer.is_running()


def test_two_signals_end_a_worker_whose_coordinator_is_halted(site: Site, worker: Worker) -> None:
    tree = worker.tree()
    (halted,) = [each for each in tree if "CoordinatorActor" in " ".join(each.cmdline())]
    halted.suspend()
    wait_until(lambda: halted.status() == psutil.STATUS_STOPPED)
    worker.process.send_signal(signal.SIGTERM)
    wait_until(lambda: ASKED in worker.log())
    assert worker.drain() == 1
    assert "did not end within 5 s of being asked again" in worker.log()
    assert "Traceback" not in worker.log(), worker.log()
    assert row(site, "select status from jobs_status") == ("RUNNING",)
    _, alive = psutil.wait_procs(tree, RAY_GONE_SECS)
    assert alive == []


def test_one_signal_is_enough_to_end_a_worker_whose_coordinator_is_halted(site: Site) -> None:
    worker = Worker(site, "w1", env={"AMP_CONFIG_AMPD_RAY__DRAIN_TIMEOUT_SECS": "1"})
    try:
        worker.up()
        (halted,) = [each for each in worker.tree() if "CoordinatorActor" in " ".join(each.cmdline())]
        halted.suspend()
        wait_until(lambda: halted.status() == psutil.STATUS_STOPPED)
        assert worker.drain() == 1
        assert "did not end within 6 s of being asked:" in worker.log()
    finally:
        worker.end()


def test_a_signal_while_the_worker_starts_is_a_good_end(site: Site) -> None:
    assert ampd("migrate", "--config", site.config).code == 0
    with psycopg.connect(site.url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(hashtextextended('w1', 0))")
        waiting = Worker(site, "w1")
        try:
            wait_until(lambda: "the node id is in use" in waiting.log())
            assert waiting.drain() == 0
            assert "told to end while starting" in waiting.log()
        finally:
            waiting.end()


# -- solo -----------------------------------------------------------------------------------------------------------


class Solo:
    """``ampd solo`` in a session of its own."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.directory = directory
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*AMPD, "solo", "--amp-dir", str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=clean_env(),
                start_new_session=True,
            )

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def up(self) -> list[psutil.Process]:
        """Wait until it takes jobs; its processes."""
        wait_until(lambda: "node is up" in self.log() or self.process.poll() is not None, 90)
        assert self.process.poll() is None, self.log()
        below: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return below

    def postgres(self) -> list[psutil.Process]:
        """The servers of its directory."""
        everyone = psutil.process_iter(["cmdline"])
        return [each for each in everyone if str(self.directory / "metadb") in (each.info["cmdline"] or [])]


def test_solo_runs_once_per_directory_and_outlives_a_kill(tmp_path: Path) -> None:
    amp_dir = tmp_path / "amp"
    first = Solo(amp_dir, tmp_path / "first.log")
    tree: list[psutil.Process] = []
    try:
        tree = first.up()
        second = ampd("solo", "--amp-dir", amp_dir)
        assert second.code == 3
        assert f"runs in {amp_dir} already (process {first.process.pid})" in second.error
        first.process.kill()
        first.process.wait()
        (orphan,) = first.postgres()

        again = Solo(amp_dir, tmp_path / "again.log")
        try:
            tree += again.up()
            assert again.postgres() == [orphan]  # adopted
            assert ampd("jobs", "list", "--amp-dir", amp_dir).code == 0
            stop = ampd("solo", "--stop", "--amp-dir", amp_dir)
            assert stop.code == 0, stop.err
            assert f"(process {again.process.pid}) has ended; its jobs resume in the next" in stop.out
            assert again.process.wait(60) == 0, again.log()
            assert "Traceback" not in again.log(), again.log()
            assert again.postgres() == []
        finally:
            again.process.kill()
            again.process.wait()
        none = ampd("solo", "--stop", "--amp-dir", amp_dir)
        assert (none.code, none.out) == (0, f"no solo environment runs in {amp_dir}\n")
        _, alive = psutil.wait_procs(tree, RAY_GONE_SECS)
        assert alive == []
    finally:
        first.process.kill()
        for each in [*tree, *first.postgres()]:
            if each.is_running():
                each.kill()
