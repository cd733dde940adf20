"""``make bench``: blocks/s, CPU seconds and memory of a whole solo environment on a mainnet-like load.

The replay server serves real blocks in an endless cycle from a process of its own, whose CPU is not counted. Every
process of the environment is counted: driver, raylet, GCS, coordinator, extractors, writers, Postgres. The last line
is JSON, for the record.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from ampd_ray.client.solo import local
from tests.fakes.places import CHAIN_DATA
from tests.fakes.replay import Replay, replay_folder

MIN_TRANSACTIONS = 100  # blocks of rpc-mainnet that are as full as today's
SAMPLE_SECS = 0.2


@dataclass
class Usage:
    """What the processes of a solo environment used: CPU seconds, and resident memory by process name (bytes)."""

    cpu_secs: float = 0.0
    idle_rss: int = 0
    peak_rss: int = 0
    by_process: dict[str, int] = field(default_factory=dict)


def mainnet_like(folder: Path) -> dict[str, float]:
    """Write the set of full mainnet blocks; its means per block."""
    kept: list[dict[str, Any]] = []
    with gzip.open(CHAIN_DATA / "rpc-mainnet" / "blocks.jsonl.gz", "rt") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry.get("receipts") and len(entry["block"]["transactions"]) >= MIN_TRANSACTIONS:
                kept.append(entry)
    folder.mkdir()
    (folder / "meta.json").write_text(json.dumps({"chainId": 1}))
    texts = [json.dumps(entry, separators=(",", ":")) for entry in kept]
    (folder / "blocks.jsonl").write_text("\n".join(texts))
    return {
        "txs": sum(len(e["block"]["transactions"]) for e in kept) / len(kept),
        "logs": sum(len(r["logs"]) for e in kept for r in e["receipts"]) / len(kept),
        "json_kb": sum(map(len, texts)) / len(kept) / 1000,
    }


def processes(amp_dir: Path) -> list[psutil.Process]:
    """The environment's processes: the solo driver with all its descendants, and its Postgres."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(amp_dir) in command and ("solo" in command or "postgres" in command):
            found[process.pid] = process
            for child in process.children(recursive=True):
                found[child.pid] = child
    return list(found.values())


def cpu_secs(of: list[psutil.Process]) -> float:
    """User and system seconds so far."""
    total = 0.0
    for process in of:
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def memory(of: list[psutil.Process]) -> dict[str, int]:
    """Proportional set size by process name: memory that processes share counts once."""
    sizes: dict[str, int] = {}
    for process in of:
        try:
            name = process.cmdline()[0].split("/")[-1] if process.cmdline() else process.name()
            sizes[name[:40]] = sizes.get(name[:40], 0) + process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return sizes


@contextmanager
def watched(amp_dir: Path) -> Iterator[Usage]:
    """Sample the environment's memory while the block runs, in a process of its own: sampling costs CPU."""
    usage = Usage()
    before = processes(amp_dir)
    cpu_before = cpu_secs(before)
    usage.idle_rss = sum(memory(before).values())
    sampler = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.backfill", "--sample", str(amp_dir)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield usage
    finally:
        after = processes(amp_dir)
        usage.cpu_secs = cpu_secs(after) - cpu_before
        out, _ = sampler.communicate()
        usage.by_process = json.loads(out)
        usage.peak_rss = sum(usage.by_process.values())


def sample(amp_dir: Path) -> None:
    """The sampler: print the largest sizes seen until standard input closes."""
    import select

    peak: dict[str, int] = {}
    while not select.select([sys.stdin], [], [], SAMPLE_SECS)[0]:
        sizes = memory(processes(amp_dir))
        if sum(sizes.values()) > sum(peak.values()):
            peak = sizes
    print(json.dumps(peak))


def run(server: Replay, amp_dir: Path, first: int, blocks: int) -> dict[str, Any]:
    """One round: a fresh range, so that nothing is covered."""
    with watched(amp_dir) as usage:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "ampd_ray", "backfill", "--rpc", server.url, "--blocks", f"{first}:+{blocks}",
             "--amp-dir", str(amp_dir), "--quiet", "--json"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        wall = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["blocks"] == blocks
    return {
        "wall_secs": wall,
        "blocks_per_s": blocks / wall,
        "cpu_s_per_1k": 1000 * usage.cpu_secs / blocks,
        "idle_rss_mb": usage.idle_rss / 1e6,
        "peak_rss_mb": usage.peak_rss / 1e6,
        "by_process_mb": {name: round(size / 1e6, 1) for name, size in sorted(usage.by_process.items())},
        "rows": summary["rows"],
        "bytes": summary["bytes"],
        "retries": summary["retries"],
    }


def measure(blocks: int, rounds: int) -> dict[str, Any]:
    """All rounds on one warm environment; prints as it goes, returns the record."""
    with tempfile.TemporaryDirectory(prefix="ampd-bench-") as place:
        root = Path(place)
        mix = mainnet_like(root / "mainnet-like")
        total = blocks * rounds + blocks
        print(f"{mix['txs']:.0f} txs, {mix['logs']:.0f} logs, {mix['json_kb']:.0f} kB of JSON a block")
        with replay_folder(root / "mainnet-like", options=("--tile", str(total))) as server, local(root / "amp"):
            run(server, root / "amp", 0, min(blocks, 64))  # warm: actors are there, code is loaded
            results = []
            for number in range(rounds):
                result = run(server, root / "amp", blocks * (number + 1), blocks)
                results.append(result)
                print(_line(number + 1, blocks, result), flush=True)
    figures = ("cpu_s_per_1k", "blocks_per_s", "peak_rss_mb", "idle_rss_mb")
    return {
        "blocks": blocks,
        "rounds": rounds,
        "mix": {name: round(value, 1) for name, value in mix.items()},
        "ours": {name: round(median(result[name] for result in results), 2) for name in figures},
        "by_process_mb": results[-1]["by_process_mb"],
    }


def _line(number: int, blocks: int, result: dict[str, Any]) -> str:
    speed = f"{blocks} blocks in {result['wall_secs']:.1f} s, {result['blocks_per_s']:.0f} blocks/s"
    cost = f"{result['cpu_s_per_1k']:.2f} CPU s per 1,000 blocks"
    memory_mb = f"peak {result['peak_rss_mb']:.0f} MB (idle {result['idle_rss_mb']:.0f} MB)"
    return f"round {number}: {speed}, {cost}, {memory_mb}"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sample:
        sample(arguments.sample)
    elif not CHAIN_DATA.is_dir():
        sys.exit("the benchmark replays real blocks from ../shared/chain-data, which is not there")
    else:
        record = measure(arguments.blocks, arguments.rounds)
        for name, size in record["by_process_mb"].items():
            print(f"  {name:<42}{size:>8.1f} MB at the peak")
        print(json.dumps(record))


if __name__ == "__main__":
    main()
