"""``make bench-head``: how soon a new block is committed, how soon a job runs, on a whole solo environment.

A job follows the head of a chain that grows by a block of the load server each ``--every-ms``, above so many files as
``--files`` says, which should change nothing: neither the time from *seen* (first told to a client as the head) to
*notified* (a listener hears of the commit), nor the CPU of all processes of the environment for each block, beyond what
they take while the chain stands still. Then small jobs start, one after another. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import following, starting
from tests.benchmarks.backfill import environment
from tests.benchmarks.following import Growing
from tests.benchmarks.load.blocks import MIXES
from tests.fakes.places import CHAIN_DATA


def measure(growing: Growing, files: Sequence[int], jobs: int) -> dict[str, Any]:
    """All of it on one environment; prints as it goes, returns the record."""
    record: dict[str, Any] = {"every_ms": growing.every_ms, "mix": growing.mix, "following": []}
    with (
        tempfile.TemporaryDirectory(prefix="ampd-bench-") as place,
        environment(amp_dir := Path(place) / "amp") as client,
    ):
        for count in files:
            record["following"].append(found := following.measure(client, amp_dir, growing, count))
            print(f"above {count:,} files: {_told(found)}", flush=True)
        if jobs:
            record["starting"] = starting.measure(client, jobs)
            print(f"{jobs} jobs: {_told(record['starting'])}", flush=True)
    few, many = record["following"][0], record["following"][-1]
    seen = [each["seen_to_notified_ms"]["p50"] for each in (few, many)]
    record["latency_ratio"] = round(seen[1] / seen[0], 2)
    record["cpu_ratio"] = round(many["cpu_ms_per_block"] / few["cpu_ms_per_block"], 2)
    return record


def _told(found: dict[str, Any]) -> str:
    """The figures as people read them."""
    lines = [""]
    for name, value in found.items():
        text = "  ".join(f"{key} {each:g}" for key, each in value.items()) if isinstance(value, dict) else f"{value:g}"
        lines.append(f"  {name:34}{text}")
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=120, help="that appear above each number of files")
    parser.add_argument("--every-ms", type=float, default=500.0, help="between two of them")
    parser.add_argument("--still-secs", type=float, default=20.0, help="without a new block, before them")
    parser.add_argument("--files", type=int, nargs="+", default=[10, 100_000], help="that are there before")
    parser.add_argument("--jobs", type=int, default=50, help="whose start is measured")
    parser.add_argument("--mix", choices=sorted(MIXES), default="mainnet")
    given = parser.parse_args()
    if not CHAIN_DATA.is_dir():
        sys.exit("the benchmark serves real blocks from ../shared/chain-data, which is not there")
    growing = Growing(given.mix, given.blocks, given.every_ms, given.still_secs)
    print(json.dumps(measure(growing, given.files, given.jobs)))


if __name__ == "__main__":
    main()
