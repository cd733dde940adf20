"""``make bench``: CPU seconds, blocks/s and memory of a whole solo environment, beside cryo and ethereum-etl.

All of them extract the same blocks from the same load server, in alternating rounds; the server's CPU is not counted,
though it runs on the same cores. Of ours every process counts: driver, client, raylet, GCS, coordinator, extractors,
writers, Postgres. The environment is warm, the peers start anew. The last line is JSON, for the record.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from ampd_ray.client import Client
from ampd_ray.client.solo import local, stop
from tests.benchmarks import timeline
from tests.benchmarks.load.blocks import MIXES, means, templates
from tests.benchmarks.peers import PEERS, Peer
from tests.benchmarks.usage import finished, watched
from tests.fakes.http import fetch
from tests.fakes.places import CHAIN_DATA
from tests.fakes.process import running

FIGURES: Final = ("cpu_s_per_1k", "blocks_per_s", "peak_rss_mb")
WARM_BLOCKS: Final = 64  # so that actors are there and code is loaded


@contextmanager
def load_server(mix: str, blocks: int, options: Sequence[str] = ()) -> Iterator[str]:
    """The address of a node that serves ``blocks`` blocks of a mix."""
    command = [sys.executable, "-m", "tests.benchmarks.load.server", "--mix", mix, "--blocks", str(blocks), *options]
    with running(command, r"LISTENING (\S+)", ready_secs=300) as ready:
        yield ready[1]


def ours(url: str, amp_dir: Path, network: str, blocks: int) -> dict[str, Any]:
    """One round of ours, into a dataset of its own."""
    command = [sys.executable, "-m", "ampd_ray", "backfill", "--rpc", url, "--blocks", f"0:{blocks}"]
    command += ["--network", network, "--amp-dir", str(amp_dir), "--quiet", "--json"]
    with watched(amp_dir) as usage:
        started = time.monotonic()
        client = finished(command, amp_dir / "client.log")
        wall = time.monotonic() - started
    usage.add("client", client.cpu_secs, client.peak_bytes)
    summary = json.loads(client.output.splitlines()[-1])
    assert summary["blocks"] == blocks
    own_secs = usage.cpu_by_process["client"]
    return {
        "wall_secs": wall,
        "blocks_per_s": blocks / wall,
        "cpu_s_per_1k": 1000 * usage.cpu_secs / blocks,
        "worker_cpu_s_per_1k": 1000 * (usage.cpu_secs - own_secs) / blocks,
        "idle_rss_mb": usage.idle_bytes / 1e6,
        "peak_rss_mb": usage.peak_bytes / 1e6,
        "by_process_mb": {name: round(size / 1e6, 1) for name, size in sorted(usage.by_process.items())},
        "by_process_cpu": {name: round(secs, 2) for name, secs in sorted(usage.cpu_by_process.items())},
        "rows": summary["rows"],
        "bytes": summary["bytes"],
        "retries": summary["retries"],
    }


@contextmanager
def place(config: str = "") -> Iterator[Path]:
    """A directory for a solo environment, with its ``config.toml``."""
    with tempfile.TemporaryDirectory(prefix="ampd-bench-") as root:
        amp_dir = Path(root) / "amp"
        amp_dir.mkdir()
        (amp_dir / "config.toml").write_text(config)
        yield amp_dir


@contextmanager
def environment(amp_dir: Path) -> Iterator[Client]:
    """A session of a solo environment that ends after the block, whatever jobs a failed round has left."""
    try:
        with local(amp_dir) as client:
            yield client
    finally:
        stop(amp_dir)


@contextmanager
def warm(amp_dir: Path, url: str) -> Iterator[Client]:
    """A solo environment whose actors are there and have loaded their code."""
    with environment(amp_dir) as client:
        ours(url, amp_dir, "warm", WARM_BLOCKS)
        yield client


def theirs(peer: Peer, url: str, blocks: int) -> dict[str, Any]:
    """One round of a peer."""
    run = peer.run(url, blocks)
    return {
        "blocks": run.blocks,
        "wall_secs": run.wall_secs,
        "blocks_per_s": run.blocks / run.wall_secs,
        "cpu_s_per_1k": 1000 * run.cpu_secs / run.blocks,
        "peak_rss_mb": run.peak_bytes / 1e6,
    }


def measure(
    blocks: int, rounds: int, *, mix: str = "mainnet", peers: Sequence[Peer] = (), options: Sequence[str] = ()
) -> dict[str, Any]:
    """All rounds on one warm environment; prints as it goes, returns the record."""
    of_mix = means(templates(CHAIN_DATA, mix))
    print(f"{of_mix['txs']:.0f} txs, {of_mix['logs']:.0f} logs, {of_mix['json_kb']:.0f} kB of JSON a block", flush=True)
    for peer in peers:
        peer.install()
    results: dict[str, list[dict[str, Any]]] = {"ours": [], **{peer.name: [] for peer in peers}}
    with place() as amp_dir, load_server(mix, max(blocks, WARM_BLOCKS), options) as url, warm(amp_dir, url):
        for number in range(1, rounds + 1):
            before = fetch(url)["bytes"]
            _note(results, "ours", number, ours(url, amp_dir, f"round_{number}", blocks))
            results["ours"][-1]["json_bytes"] = fetch(url)["bytes"] - before
            for peer in peers:
                _note(results, peer.name, number, theirs(peer, url, blocks))
        with timeline.watched(amp_dir, url) as found:
            ours(url, amp_dir, "watched", blocks)
    print(f"another round of ours, watched (it costs time):\n{found}")
    return record(blocks, of_mix, results)


def record(blocks: int, mix: dict[str, float], results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, ranges, and ratios of medians."""
    medians = {
        name: {key: round(median(each[key] for each in rounds), 2) for key in FIGURES}
        for name, rounds in results.items()
    }
    found: dict[str, Any] = {"blocks": blocks, "rounds": len(results["ours"])}
    found["mix"] = {name: round(value, 1) for name, value in mix.items()}
    found |= medians
    found["ours"] |= {"idle_rss_mb": round(median(each["idle_rss_mb"] for each in results["ours"]), 1)}
    found["ranges"] = {
        name: {key: [round(pick(each[key] for each in rounds), 2) for pick in (min, max)] for key in FIGURES}
        for name, rounds in results.items()
    }
    for name, short in (("cryo", "cryo"), ("ethereum_etl", "etl")):
        if name in medians:
            found[f"cpu_ratio_{short}"] = round(medians[name]["cpu_s_per_1k"] / medians["ours"]["cpu_s_per_1k"], 2)
            found[f"wall_ratio_{short}"] = round(medians["ours"]["blocks_per_s"] / medians[name]["blocks_per_s"], 2)
    found |= {key: results["ours"][-1][key] for key in ("by_process_mb", "by_process_cpu")}
    return found


def _note(results: dict[str, list[dict[str, Any]]], name: str, number: int, result: dict[str, Any]) -> None:
    results[name].append(result)
    idle = f" (idle {result['idle_rss_mb']:.0f} MB)" if "idle_rss_mb" in result else ""
    print(
        f"round {number}  {name:13}{result['blocks_per_s']:8.0f} blocks/s{result['cpu_s_per_1k']:8.2f} CPU s/1,000"
        f"{result['peak_rss_mb']:8.0f} MB at the peak{idle}",
        flush=True,
    )


def table(found: dict[str, Any]) -> str:
    """The record as people read it."""
    lines = [f"{'':14}{'CPU s per 1,000 blocks':>26}{'blocks/s':>22}{'peak MB':>22}"]
    for name, ranges in found["ranges"].items():
        cells = [f"{found[name][key]:g} ({ranges[key][0]:g} - {ranges[key][1]:g})" for key in FIGURES]
        lines.append(f"{name:14}{cells[0]:>26}{cells[1]:>22}{cells[2]:>22}")
    ratios = {key: value for key, value in found.items() if "_ratio_" in key}
    return "\n".join([*lines, *(f"{key:20}{value:>8.2f}" for key, value in ratios.items())])


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mix", choices=sorted(MIXES), default="mainnet")
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS), help="which of them, or nothing")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--rate", type=float, help="requests a second that the node takes")
    parser.add_argument("--error-rate", type=float, default=0.0)
    given = parser.parse_args()
    if not CHAIN_DATA.is_dir():
        sys.exit("the benchmark serves real blocks from ../shared/chain-data, which is not there")
    options = ["--latency-ms", str(given.latency_ms), "--error-rate", str(given.error_rate)]
    options += ["--rate", str(given.rate)] if given.rate else []
    peers = [peer for peer in PEERS if peer.name in given.peers.split(",")]
    found = measure(given.blocks, given.rounds, mix=given.mix, peers=peers, options=options)
    for name, size in found["by_process_mb"].items():
        cpu = found["by_process_cpu"].get(name, 0.0)
        print(f"  {name:<42}{size:>8.1f} MB at the peak{cpu:>8.2f} CPU s in the last round")
    print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
