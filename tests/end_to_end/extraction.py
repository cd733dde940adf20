"""Real chain data extracted by real processes: backfills in a solo environment, and jobs that a worker takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ampd_ray import Client, backfill, connect, local
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import evm_rpc_manifest
from ampd_ray.datasets.names import DatasetRef
from ampd_ray.metadb.embedded import EmbeddedPostgres
from tests.committed import CommittedFile, committed_files
from tests.fakes.process import running
from tests.fakes.replay import Replay

AMPD = [sys.executable, "-m", "ampd_ray"]
UP = r'msg="node is up"'
COMMANDS_AT_A_TIME = 3
START_SECS = 90.0  # Ray on a busy machine
DRAIN_SECS = 60.0
COMMAND_SECS = 90.0
JOBS_SECS = 90.0
POLL_SECS = 0.1
OPEN_JOBS = """
select s.job_id, s.status, s.updated_at, p.phase, p.blocks_done, p.limiting_factor
from jobs_status s left join ampd_ray.job_progress p using (job_id)
where upper(s.status) not in ('COMPLETED', 'STOPPED', 'ERROR', 'FATAL')
"""
CONFIG = """\
data_dir = "data"
providers_dir = "providers"
manifests_dir = "manifests"
[metadata_db]
url = "{url}"
[ampd_ray]
failover_group = "real-chains"
"""


@dataclass(frozen=True)
class Source:
    """One set of chain data and the node that serves it."""

    name: str
    node: Replay
    stretches: Sequence[tuple[int, int]]  # runs of consecutive blocks, first and last

    @property
    def network(self) -> str:
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Extraction:
    """What ``jobs`` jobs committed, read by SQL when they had ended."""

    data_dir: Path
    files: list[CommittedFile]
    jobs: int
    seconds: float

    def of(self, source_name: str) -> list[CommittedFile]:
        """The files of one set, by table and first block."""
        return [file for file in self.files if file.dataset == source_name.replace("-", "_")]


def ampd(*arguments: str) -> str:
    """Run a command to its end; its standard output. It must succeed."""
    done = subprocess.run(
        [*AMPD, *arguments], capture_output=True, text=True, timeout=COMMAND_SECS, check=False, env=clean_env()
    )
    assert done.returncode == 0, f"ampd {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def clean_env(**more: str) -> dict[str, str]:
    """The environment without what would configure an ``ampd`` of the developer's."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("AMP_", "RAY_ADDRESS"))} | more


@contextmanager
def node(*arguments: str, log: Path, **env: str) -> Iterator[None]:
    """A command that runs a worker, until the block ends; what it says is in ``log``."""
    command = [*AMPD, *arguments]
    with running(command, UP, env=clean_env(**env), log=log, ready_secs=START_SECS, end_secs=DRAIN_SECS):
        yield


@contextmanager
def solo(amp_dir: Path, **env: str) -> Iterator[str]:
    """``ampd solo`` in ``amp_dir`` until the block ends; yields its database's address."""
    amp_dir.mkdir(exist_ok=True)
    with node("solo", "--amp-dir", str(amp_dir), log=amp_dir / "test.log", **env):
        dsn = EmbeddedPostgres.running_dsn(amp_dir / "metadb")
        assert dsn is not None
        yield dsn


def by_backfill(sources: Sequence[Source], amp_dir: Path, **env: str) -> Extraction:
    """All stretches in one solo environment that has ``env``: the first of a set by ``ampd backfill``, the others by a
    session, which has no start to wait for."""
    started = time.monotonic()

    def by_command(source: Source) -> None:
        first, last = source.stretches[0]
        report = json.loads(
            ampd("backfill", "--rpc", source.node.url, "--network", source.network, "--blocks", f"{first}:{last + 1}",
                 "--amp-dir", str(amp_dir), "--json", "--quiet")
        )  # fmt: skip
        assert (report["start"], report["end"], report["holes"]) == (first, last, [])

    with solo(amp_dir, **env) as dsn:
        with ThreadPoolExecutor(COMMANDS_AT_A_TIME) as commands:
            list(commands.map(by_command, sources))
        others = [(source, stretch) for source in sources for stretch in source.stretches[1:]]
        with local(amp_dir) as client:
            jobs = [
                backfill(client, rpc=source.node.url, network=source.network, blocks=f"{first}:{last + 1}")
                for source, (first, last) in others
            ]
            done = [job.wait(JOBS_SECS) for job in jobs]
        assert [(each.start, each.end, each.holes) for each in done] == [(*stretch, []) for _, stretch in others]
        files = committed_files(dsn)
    return Extraction(amp_dir / "data", files, len(sources) + len(others), time.monotonic() - started)


def by_worker(sources: Sequence[Source], folder: Path, database_url: str) -> Extraction:
    """``ampd migrate``, one ``ampd worker``, and a registered and deployed dataset for each stretch.

    The first stretch of a set goes by commands, the others by a session, which has no start to wait for.
    """
    started = time.monotonic()
    for name in ("data", "providers", "manifests"):
        (folder / name).mkdir()
    config = folder / "amp.toml"
    config.write_text(CONFIG.format(url=database_url))
    ampd("migrate", "--config", str(config))
    with node("worker", "--config", str(config), "--node-id", "worker-1", log=folder / "worker.log"):
        with ThreadPoolExecutor(COMMANDS_AT_A_TIME) as commands:
            jobs = list(commands.map(lambda source: _by_commands(source, config), sources))
        with connect(config) as client:
            jobs += [_by_session(client, source, stretch) for source in sources for stretch in source.stretches[1:]]
        _wait_for_jobs(database_url, folder / "worker.log")
        files = committed_files(database_url)
    return Extraction(folder / "data", files, len(jobs), time.monotonic() - started)


def _by_commands(source: Source, config: Path) -> int:
    """Add the provider, register and deploy the first stretch, to be verified in full; the job's id."""
    name, (first, last) = f"_/{source.network}", source.stretches[0]
    common, in_json = ["--config", str(config)], ["--config", str(config), "--json"]
    ampd(
        "providers",
        "add",
        source.network,
        "--network",
        source.network,
        "--url",
        source.node.url,
        "--batch",
        "50",
        *common,
    )
    ampd("datasets", "register", name, "--network", source.network, "--start-block", str(first), *in_json)
    return int(json.loads(ampd("deploy", name, "--end-block", str(last), "--verify-full", *in_json))["job_id"])


def _by_session(client: Client, source: Source, stretch: tuple[int, int]) -> int:
    """The same for another stretch, whose start makes it another manifest."""
    first, last = stretch
    dataset = DatasetRef("_", source.network)
    manifest_hash = client.register_dataset(dataset, evm_rpc_manifest(source.network, first))
    return client.deploy(
        JobDescriptor.of(dataset, manifest_hash, end_block=str(last), verify=True, verify_level="full")
    ).id


def _wait_for_jobs(database_url: str, log: Path) -> None:
    """Wait until no job is at work; how they ended is for ``committed_files`` to look at."""
    deadline = time.monotonic() + JOBS_SECS
    with psycopg.connect(database_url, autocommit=True) as connection:
        while jobs := connection.execute(OPEN_JOBS).fetchall():
            assert time.monotonic() < deadline, f"after {JOBS_SECS:.0f} s: {jobs}\n{log.read_text()[-20_000:]}"
            time.sleep(POLL_SECS)
