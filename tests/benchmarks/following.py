"""How soon a job that follows the head has committed a new block, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ampd_ray.client import Client
from ampd_ray.datasets.descriptor import JobDescriptor
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.datasets.names import DatasetRef
from tests.benchmarks.backfill import load_server
from tests.benchmarks.figures import milliseconds
from tests.benchmarks.listening import Commit, listening
from tests.benchmarks.registered import register_files
from tests.benchmarks.usage import spent
from tests.fakes.http import fetch
from tests.fakes.site import register

WARM_BLOCKS: Final = 4  # so that actors are there and code is loaded
PATIENCE_SECS: Final = 120.0


@dataclass(frozen=True)
class Growing:
    """A chain that stands still for ``still_secs``, and then gets ``blocks`` blocks of a mix, one each ``every_ms``."""

    mix: str
    blocks: int
    every_ms: float
    still_secs: float

    @property
    def patience_secs(self) -> float:
        return PATIENCE_SECS + self.blocks * self.every_ms / 1000


def measure(client: Client, amp_dir: Path, growing: Growing, files: int) -> dict[str, Any]:
    """Follow the head above ``files`` files of one block each; the figures of the blocks that came then."""
    options = ("--start-head", str(files - 1), "--grow-every-ms", str(growing.every_ms))
    with load_server(growing.mix, files + WARM_BLOCKS + growing.blocks, options) as url:
        network = f"after_{files}"
        client.add_provider(network, kind="evm-rpc", network=network, url=url)
        descriptor = register(client, network, network)
        locations = register_files(client, descriptor, network, files)
        job = client.deploy(descriptor)
        with listening(client.settings.metadata_db.dsn(), locations["blocks"]) as listener:
            warm = listener.until(fetch(f"{url}/grow/{WARM_BLOCKS}"), growing.patience_secs)
            with spent(amp_dir) as idle:
                time.sleep(growing.still_secs)
            began = time.monotonic()
            with spent(amp_dir) as cpu:
                commits = listener.until(fetch(f"{url}/grow/{growing.blocks}"), growing.patience_secs)
            secs = time.monotonic() - began
        job.stop()
        job.outcome(PATIENCE_SECS)
        timeline = fetch(f"{url}/timeline")
    _check(client, descriptor, files, warm + commits)
    idle_share = sum(idle.values()) / growing.still_secs
    return {"files": files, "blocks": growing.blocks, **_latencies(commits, timeline)} | {
        "blocks_per_commit": round(growing.blocks / len(commits), 2),
        "cpu_ms_per_block": round(1000 * (sum(cpu.values()) - idle_share * secs) / growing.blocks, 1),
        "idle_cpu_ms_per_s": round(1000 * idle_share, 1),
        "all_cpu_ms_per_block_by_process": {
            name: round(1000 * used / growing.blocks, 1) for name, used in sorted(cpu.items()) if used
        },
    }


def _latencies(commits: Sequence[Commit], timeline: dict[str, Any]) -> dict[str, dict[str, float]]:
    """From when a block appeared, and from when it was first told as the head, to the notification."""
    blocks = [(number - timeline["first"], commit.at) for commit in commits for number in _numbers(commit)]
    return {
        f"{event}_to_notified_ms": milliseconds([at - timeline[times][index] for index, at in blocks])
        for event, times in (("appeared", "appeared"), ("seen", "told"))
    }


def _check(client: Client, descriptor: JobDescriptor, files: int, commits: Sequence[Commit]) -> None:
    """Raises AssertionError unless each new block was committed once, in all tables."""
    committed = [number for commit in commits for number in _numbers(commit)]
    assert committed == list(range(files, files + len(committed))), f"not once each: {committed}"
    dataset = DatasetRef(descriptor.dataset_namespace, descriptor.dataset_name, descriptor.manifest_hash)
    for table in TABLES:
        assert len(client.files(dataset, table)) == files + len(commits), table


def _numbers(commit: Commit) -> range:
    return range(commit.span.start, commit.span.end + 1)
