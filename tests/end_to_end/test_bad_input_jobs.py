"""What goes wrong inside a job, seen by a user: ``ampd backfill`` and ``ampd jobs show`` beside one real worker.

The row becomes ERROR or FATAL with the error JSON of ``spec/metadata-db.md`` 5.6, the command ends with 1 and one
line, nothing is committed in part, and no secret of an address, a token or a DSN gets into message, row or log.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.devnet.chain import DevChain
from tests.fakes.ampd import CANARY, Said, ampd
from tests.fakes.aside import aside
from tests.fakes.faulty_rpc import FOREVER, Fault, FaultyRpc
from tests.fakes.hosts import free_port, small_disk
from tests.fakes.site import Site, wait_until
from tests.fakes.worker import Worker
from tests.servers import Server

HEAD = 60
BLOCKS = "0:50"
JOB_SECS = 60.0
BLOCK, RECEIPTS = "eth_getBlockByNumber", "eth_getBlockReceipts"
IS_ROOT = os.geteuid() == 0
DISK_KB = 8 * 1024
CONFIG = """\
poll_interval_secs = 0.1
data_dir = "disk/data"
[metadata_db]
url = "{url}"
[ampd_ray]
node_lock_timeout_secs = 5
failover_group = "bad-input"
extractors = 1
[ampd_ray.networks]
elsewhere = 1
"""


@dataclass(frozen=True)
class Bench:
    """A worker that is up, and the node that its providers mean."""

    site: Site
    worker: Worker
    node: FaultyRpc

    @property
    def rpc(self) -> str:
        """The node's address with a secret in each place where one may stand."""
        return self.node.url.replace("://", f"://{CANARY}:{CANARY}@", 1) + f"/v2/{CANARY}?key={CANARY}"

    @property
    def data(self) -> Path:
        return self.site.directory / "disk" / "data"

    @property
    def host(self) -> str:
        return self.node.url.removeprefix("http://")

    def ampd(self, *arguments: str) -> Said:
        return ampd(*arguments, "--config", self.site.config)

    def backfill(self, name: str, *more: str, blocks: str = BLOCKS) -> Said:
        return self.ampd("backfill", "--rpc", self.rpc, "--network", name, "--blocks", blocks, "--quiet", *more)

    def fails(self, name: str, *more: str, status: str, within: float = JOB_SECS) -> dict[str, Any]:
        """Run a backfill whose job ends as ``status``; its error JSON, held to 5.6."""
        said = self.backfill(name, *more)
        line = said.error_within(within)
        assert said.code == 1
        found = re.search(r"job (\d+) ended as (\w+): ", line)
        assert found is not None, line
        assert found[2] == status
        shown = self.shown(int(found[1]))
        assert shown["error"]["error_message"] in line
        return self.checked(shown, name, status)

    def deployed(self, name: str, *more: str) -> int:
        """Deploy the dataset ``name`` up to block 49; the job's id."""
        said = self.ampd("deploy", f"_/{name}", "--end-block", "49", "--json", *more)
        assert said.code == 0, said.err
        job_id: int = json.loads(said.out)["job_id"]
        return job_id

    def registered(self, name: str, network: str | None = None) -> None:
        assert self.ampd("datasets", "register", f"_/{name}", "--network", network or name).code == 0

    def ended(self, job_id: int, name: str, status: str) -> dict[str, Any]:
        """Wait for a job's end as ``status``; its error JSON, held to 5.6."""
        shown = wait_until(lambda: self._ended(job_id), JOB_SECS, f"the end of job {job_id}")
        return self.checked(shown, name, status)

    def shown(self, job_id: int) -> dict[str, Any]:
        said = self.ampd("jobs", "show", str(job_id), "--json")
        assert said.code == 0, said.err
        assert CANARY not in said.out
        fields: dict[str, Any] = json.loads(said.out)
        return fields

    def checked(self, shown: dict[str, Any], name: str, status: str) -> dict[str, Any]:
        assert shown["status"] == status, shown
        error: dict[str, Any] = shown["error"]
        context = error["error_context"]
        assert context["attempt_index"] == 1
        assert context["dataset"] == f"_/{name}"
        assert context["manifest_hash"] == shown["descriptor"]["manifest_hash"]
        assert context["implementation"] == "ampd-ray"
        assert context["error_class"] in {"transient", "bounded", "fatal"}
        assert all(isinstance(cause, str) for cause in context.get("stack_trace", []))
        assert len(json.dumps(error)) < 16 * 1024
        with psycopg.connect(self.site.url) as conn:
            told = "select event_type, detail from job_events where job_id = %s order by id desc limit 1"
            assert conn.execute(told, [shown["job_id"]]).fetchone() == (status, error)
        self.nothing_is_half_there(name)
        return error

    def nothing_is_half_there(self, name: str) -> None:
        """Each committed range is there for all tables, each file has a row and each row a file; no staged files."""
        with psycopg.connect(self.site.url) as conn:
            rows = conn.execute(
                "select t.table_name, r.path, f.file_name, f.metadata -> 'ranges' -> 0 -> 'numbers' "
                "from file_metadata f join physical_table_revisions r on r.id = f.location_id "
                "join physical_tables t on t.active_revision_id = r.id where t.dataset_name = %s",
                [name],
            ).fetchall()
            paths = conn.execute(
                "select r.path from physical_tables t join physical_table_revisions r on r.id = t.active_revision_id "
                "where t.dataset_name = %s",
                [name],
            ).fetchall()
        ranges = {table: sorted(json.dumps(n) for t, _, _, n in rows if t == table) for table, *_ in rows}
        assert len(set(map(tuple, ranges.values()))) <= 1, ranges
        there = {file for (path,) in paths for file in (self.data / path).glob("*") if file.is_file()}
        assert there == {self.data / path / file for _, path, file, _ in rows}
        wait_until(lambda: not list(self.data.glob(".*/**/*.parquet")), 10, "staging to be empty")

    def _ended(self, job_id: int) -> dict[str, Any] | None:
        shown = self.shown(job_id)
        return shown if shown["status"] in ("ERROR", "FATAL", "COMPLETED", "STOPPED") else None


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the data directory is: for root a small file system of its own."""
    path = tmp_path_factory.mktemp("site") / "disk"
    path.mkdir()
    if IS_ROOT:
        with small_disk(path, DISK_KB):
            yield path
    else:
        yield path


@pytest.fixture(scope="module")
def running(disk: Path, embedded: Server) -> Iterator[Bench]:
    url = embedded.migrate(embedded.create_database("template0"))
    site = Site(disk.parent, url)
    for name in ("disk/data", "providers", "manifests"):
        (site.directory / name).mkdir()
    site.config.write_text(CONFIG.format(url=url.replace("@", f":{CANARY}@", 1)))
    chain = DevChain(1, 3)
    chain.mine(HEAD)
    with aside(lambda: FaultyRpc(chain)) as node:
        worker = Worker(site, "w1")
        try:
            yield Bench(site, worker.up(), node)
            assert worker.drain() == 0, worker.log()
            assert CANARY not in worker.log()
            assert not re.search(r'Traceback|Unhandled error|  File "', worker.log()), worker.log()
        finally:
            worker.end()


@pytest.fixture
def bench(running: Bench) -> Iterator[Bench]:
    """The same bench for every test, its node healthy again; titles of processes hold no secret either."""
    yield running
    running.node.heal()
    titles = [" ".join(process.cmdline()) for process in running.worker.tree()]
    assert not any(CANARY in title for title in titles)


# -- the provider ---------------------------------------------------------------------------------------------------

FAULTS = [
    (Fault.UNAUTHORIZED, "answered HTTP 401: the credentials do not work"),
    (Fault.HTML, "answered HTML instead of JSON (3 tries)"),
    (Fault.TRUNCATED, "answered truncated or malformed JSON (3 tries)"),
]


@pytest.mark.parametrize(("fault", "told"), FAULTS, ids=[fault.name for fault, _ in FAULTS])
def test_a_provider_that_answers_badly(bench: Bench, fault: Fault, told: str) -> None:
    bench.node.inject(fault, times=FOREVER, method=RECEIPTS)
    name = fault.name.lower()
    error = bench.fails(name, status="ERROR")
    assert bench.node.fired[fault] >= 2  # asked again before it was given up
    assert error["error_code"] == "PARTITION_TASK"
    assert f"provider {name} at {bench.host} {told}" in error["error_message"]
    context = error["error_context"]
    assert (context["error_class"], context["provider"], context["host"]) == ("bounded", name, bench.host)
    assert context["stack_trace"]


def test_a_token_that_does_not_work(bench: Bench) -> None:
    bench.node.inject(Fault.UNAUTHORIZED, times=FOREVER)
    bench.registered("token")
    assert bench.ampd(
        "providers", "add", "token", "--network", "token", "--url", bench.node.url, "--auth-token", CANARY
    ).code == 0  # fmt: skip
    error = bench.ended(bench.deployed("token"), "token", "ERROR")
    assert bench.node.requests[-1].headers["Authorization"] == f"Bearer {CANARY}"
    assert error["error_code"] == "CREATE_BLOCK_STREAM_CLIENT"
    assert "Check auth_token and auth_header in the provider file" in error["error_message"]


def test_a_block_that_the_provider_does_not_have(bench: Bench) -> None:
    bench.node.alter(BLOCK, lambda block: None if block and block["number"] == hex(33) else block)
    error = bench.fails("absent", status="ERROR")
    assert error["error_code"] == "PARTITION_TASK"
    assert f"block 33: provider absent at {bench.host} " in error["error_message"]
    context = error["error_context"]
    assert (context["block_range_start"], context["block_range_end"]) == (33, 33)


def test_receipts_that_do_not_match(bench: Bench) -> None:
    """Of nearly all blocks: then it is not the blocks."""
    bench.node.inject(Fault.DROPPED_RECEIPT, times=FOREVER)
    error = bench.fails("dropped", status="FATAL")
    assert bench.node.fired[Fault.DROPPED_RECEIPT] >= 3
    assert error["error_code"] == "PARTITION_TASK"
    assert "it is not the blocks; those that are there stay set aside" in error["error_message"]
    assert re.search(
        r"dropped block \d+: \d receipts? for \d transactions? \(provider dropped at", error["error_message"]
    )
    assert error["error_context"]["error_class"] == "fatal"


def test_a_value_that_does_not_fit_its_column_costs_its_block(bench: Bench) -> None:
    bench.node.alter(BLOCK, lambda block: block | {"gasLimit": hex(1 << 64)} if block["number"] == hex(7) else block)
    said = bench.backfill("overflow")
    assert said.code == 1
    assert re.search(r"^blocks +49 of 50", said.out, re.MULTILINE)
    assert re.search(r"^holes +7; 1 quarantined$", said.out, re.MULTILINE)
    assert "1 of the blocks that are missing is right at no provider:" in said.out
    assert "overflow block 7 header gasLimit: 0x10000000000000000 does not fit" in said.out
    assert "(provider overflow)" in said.out
    assert re.search(r"to ask again: ampd jobs retry \d+ --quarantined( --config .+)?$", said.out, re.MULTILINE)


def test_another_chain_is_fatal(bench: Bench) -> None:
    error = bench.fails("elsewhere", status="FATAL")
    assert error["error_code"] == "CREATE_BLOCK_STREAM_CLIENT"
    assert f"at {bench.host} serves chain 1337, but elsewhere is chain 1" in error["error_message"]
    assert error["error_context"]["error_class"] == "fatal"


def test_a_provider_that_is_down_when_the_job_starts(bench: Bench) -> None:
    bench.registered("down")
    port = free_port()
    assert bench.ampd("providers", "add", "down", "--network", "down", "--url", f"http://127.0.0.1:{port}").code == 0
    error = bench.ended(bench.deployed("down"), "down", "ERROR")
    assert error["error_code"] == "CREATE_BLOCK_STREAM_CLIENT"
    assert f"provider down at 127.0.0.1:{port} refused the connection (8 tries)" in error["error_message"]
    assert error["error_context"]["error_class"] == "transient"


def test_no_provider_at_all(bench: Bench) -> None:
    bench.registered("nobody")
    error = bench.ended(bench.deployed("nobody"), "nobody", "ERROR")
    assert error["error_code"] == "CREATE_BLOCK_STREAM_CLIENT"
    assert "add one: ampd providers add NAME --network " in error["error_message"]


def test_a_provider_whose_variable_is_not_set(bench: Bench) -> None:
    bench.registered("unset")
    assert bench.ampd("providers", "add", "unset", "--network", "unset", "--url", "${NO_SUCH_VARIABLE}").code == 0
    error = bench.ended(bench.deployed("unset"), "unset", "ERROR")
    assert "the environment variable NO_SUCH_VARIABLE is not set" in error["error_message"]


@pytest.mark.parametrize("fault", [Fault.TOO_MANY, Fault.RESET, Fault.SERVER_ERROR], ids=lambda fault: fault.name)
def test_what_time_cures_is_waited_out_and_said(bench: Bench, fault: Fault) -> None:
    bench.node.inject(fault, times=3, method=RECEIPTS, retry_after=0)
    said = bench.backfill(f"cured_{fault.name.lower()}", "--json")
    assert said.code == 0, said.err
    assert bench.node.fired[fault] == 3
    summary = json.loads(said.out.splitlines()[-1])
    assert (summary["holes"], summary["blocks"]) == ([], 50)
    assert summary["retries"] >= 3


def test_a_provider_that_throttles_for_ever_is_told_in_the_log_and_the_job_can_be_stopped(bench: Bench) -> None:
    bench.backfill("throttled", blocks="0:3")  # registers provider and dataset
    bench.node.inject(Fault.TOO_MANY, times=FOREVER, method=RECEIPTS, retry_after=30)
    seen = len(bench.worker.log())
    job_id = bench.deployed("throttled")
    wait_until(lambda: "too many requests" in bench.worker.log()[seen:], 15, "a line about 429")
    assert bench.shown(job_id)["status"] == "RUNNING"
    said = bench.ampd("jobs", "stop", str(job_id), "--wait", "20", "--json")
    assert (said.code, json.loads(said.out)["status"]) == (0, "STOPPED")
    bench.nothing_is_half_there("throttled")


# -- manifests, directories, the disk -------------------------------------------------------------------------------


def manifest_of(bench: Bench, name: str) -> Path:
    """The stored manifest of a dataset that this call registers."""
    bench.registered(name)
    with psycopg.connect(bench.site.url) as conn:
        row = conn.execute("select hash from dataset_manifests where name = %s", [name]).fetchone()
    assert row is not None
    return bench.site.directory / "manifests" / str(row[0])


def test_a_manifest_that_cannot_be_read_is_not_deployed(bench: Bench) -> None:
    manifest = manifest_of(bench, "gone")
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b'"gone"', b'"lost"'))
    said = bench.ampd("deploy", "_/gone")
    assert (said.code, "was changed" in said.error) == (1, True)
    manifest.write_bytes(whole[:100])
    said = bench.ampd("deploy", "_/gone")
    assert (said.code, "manifest" in said.error) == (1, True)
    manifest.unlink()
    said = bench.ampd("deploy", "_/gone")
    assert (said.code, f"{manifest} does not exist" in said.error) == (1, True)


def test_a_manifest_that_is_gone_when_the_job_starts_is_fatal(bench: Bench) -> None:
    manifest = manifest_of(bench, "vanished")
    descriptor = JobDescriptor.of(DatasetRef("_", "vanished"), manifest.name, end_block="49")
    manifest.unlink()
    with bench.site.client() as client:
        job_id = client.deploy(descriptor).id
    error = bench.ended(job_id, "vanished", "FATAL")
    assert error["error_code"] == "GET_DATASET"
    assert "is not in manifests_dir; restore it" in error["error_message"]


def test_a_data_directory_that_vanishes(bench: Bench) -> None:
    data = bench.data
    away = data.rename(data.with_name("away"))
    try:
        said = bench.backfill("homeless")
        line = said.error_within(JOB_SECS)
        assert not data.exists()  # nobody made it again
    finally:
        away.rename(data)
    assert said.code == 1
    found = re.search(r"job (\d+) ended as ERROR: ", line)
    assert found is not None, line
    error = bench.checked(bench.shown(int(found[1])), "homeless", "ERROR")
    assert str(data) in error["error_message"]
    assert "the directory is missing" in error["error_message"]


@contextmanager
def no_room(bench: Bench) -> Iterator[str]:
    """Nothing more can be written to the data directory; yields what an error has to say."""
    if not IS_ROOT:  # without a file system of our own: the writer may not make its files longer
        assert bench.backfill("warm", blocks="0:3").code == 0  # so that there is one
        writers = [each for each in bench.worker.tree() if "WriterActor" in " ".join(each.cmdline())]
        assert writers
        for limit in (1024, psutil.RLIM_INFINITY):
            for writer in writers:
                writer.rlimit(psutil.RLIMIT_FSIZE, (limit, psutil.RLIM_INFINITY))
            if limit == 1024:
                yield "File too large"
        return
    filler = bench.data.parent / "filler"
    with pytest.raises(OSError, match="No space left on device"):
        filler.write_bytes(bytes(2 * DISK_KB * 1024))
    assert shutil.disk_usage(bench.data).free == 0
    yield "no space left"
    assert shutil.disk_usage(bench.data).free == 0
    filler.unlink()


def test_a_disk_that_is_full_fails_the_job_and_room_lets_it_go_on(bench: Bench) -> None:
    with no_room(bench) as told:
        error = bench.fails("full", status="ERROR")
    assert error["error_code"] == "PARTITION_TASK"
    assert error["error_context"]["error_class"] == "bounded"
    assert str(bench.data) in error["error_message"]
    assert told in error["error_message"]
    said = bench.backfill("full", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out.splitlines()[-1])["holes"] == []
    bench.nothing_is_half_there("full")
