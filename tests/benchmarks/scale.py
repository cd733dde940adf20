"""``make bench-scale``: does a block, a job, a segment cost the same when there are many of them? See docs/scale.md.

Each part has warm solo environments of its own, and a load server whose CPU is not counted:

    blocks       CPU and blocks/s of backfills of more and more blocks; those above 50,000 are of the mix ``tiny``
    extractors   the same of one backfill with more and more extractors
    jobs         as many jobs at once on one worker: all complete, and the node goes on beating
    statements   what a committed segment costs Postgres, counted at the server, and what a node costs that waits
    commits      how many segments a second the embedded Postgres takes, without anything before them

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import commits, many_jobs, statements
from tests.benchmarks.backfill import load_server, ours, place, warm
from tests.benchmarks.load.blocks import MIXES
from tests.benchmarks.usage import named, of_environment
from tests.fakes.http import fetch
from tests.fakes.places import CHAIN_DATA
from tests.fakes.site import wait_until

MANY_BLOCKS: Final = 50_000  # of which the load server keeps only small ones
PROCESSES: Final = ("client", "Coordinator", "Extractor", "Writer", "postgres", "raylet", "gcs_server")


def grown(sizes: Sequence[int], mix: str) -> dict[str, Any]:
    """Backfills of so many blocks in one environment; ``ratio``: the CPU of a block in the largest to the smallest."""
    found: dict[str, Any] = {}
    with place() as amp_dir, load_server(mix, max(sizes)) as url, warm(amp_dir, url):
        for blocks in sizes:
            found[str(blocks)] = _round(url, amp_dir, f"{mix}_{blocks}", blocks)
    first, last = found[str(min(sizes))], found[str(max(sizes))]
    for key in ("cpu_s_per_1k", "worker_cpu_s_per_1k"):
        found[f"{key}_ratio"] = round(last[key] / first[key], 3)
    return found


def widened(numbers: Sequence[int], blocks: int, mix: str) -> dict[str, Any]:
    """One backfill in environments with so many extractors, all of which are up before it starts."""
    found = {}
    with load_server(mix, blocks) as url:
        for number in numbers:
            with place(f"[ampd_ray]\nextractors = {number}\n") as amp_dir, warm(amp_dir, url):
                wait_until(partial(_has, amp_dir, number), what=f"{number} extractors")
                found[str(number)] = _round(url, amp_dir, f"{number}_extractors", blocks)
    return found


def _has(amp_dir: Path, extractors: int) -> bool:
    return named(of_environment(amp_dir), "ray::ExtractorActor") == extractors


def _round(url: str, amp_dir: Path, name: str, blocks: int) -> dict[str, Any]:
    before = fetch(url)["bytes"]
    result = ours(url, amp_dir, name, blocks)
    figures = {key: round(result[key], 3) for key in ("blocks_per_s", "cpu_s_per_1k", "worker_cpu_s_per_1k")}
    figures["peak_rss_mb"] = round(result["peak_rss_mb"])
    figures["json_bytes_a_block"] = round((fetch(url)["bytes"] - before) / blocks)
    figures["parquet_bytes_a_block"] = round(result["bytes"] / blocks)
    print(f"{name:18} {blocks:7,} blocks  {figures}", flush=True)
    of_all = result["by_process_cpu"]
    figures["cpu_s_per_1k_of"] = {
        part: round(1000 * sum(secs for name, secs in of_all.items() if part in name) / blocks, 4) for part in PROCESSES
    }
    return figures


def sizes_of(mix: str, blocks: Sequence[int]) -> dict[str, list[int]]:
    """Which sizes are measured of which mix; large ones have a small one of the same mix beside them."""
    found = {mix: [number for number in blocks if number <= MANY_BLOCKS]}
    if many := [number for number in blocks if number > MANY_BLOCKS]:
        found["tiny"] = [*found.get("tiny", found[mix][:1]), *many]
    return {name: sizes for name, sizes in found.items() if sizes}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, nargs="+", default=[1_000, 20_000, 200_000])
    parser.add_argument("--mix", choices=sorted(MIXES), default="light")
    parser.add_argument("--extractors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--extracted", type=int, default=5_000, help="blocks of the part extractors")
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--job-blocks", type=int, default=300)
    parser.add_argument("--committed", type=int, nargs=2, default=[80, 2_400], help="blocks of the part statements")
    parser.add_argument("--segments", type=int, default=500, help="of each committer of the part commits")
    parser.add_argument("--parts", nargs="+", help="some of them; all by default")
    given = parser.parse_args()
    if not CHAIN_DATA.is_dir():
        sys.exit("the benchmark serves real blocks from ../shared/chain-data, which is not there")
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "blocks": lambda: {mix: grown(sizes, mix) for mix, sizes in sizes_of(given.mix, given.blocks).items()},
        "extractors": lambda: widened(given.extractors, given.extracted, given.mix),
        "jobs": lambda: many_jobs.measure(given.jobs, given.job_blocks),
        "statements": lambda: statements.measure(given.committed),
        "commits": lambda: commits.measure(given.segments),
    }
    record = {}
    for part in given.parts or parts:
        print(f"-- {part}", flush=True)
        record[part] = parts[part]()
    print(json.dumps(record))


if __name__ == "__main__":
    main()
