"""``make bench-plan``: what ``ampd backfill --plan`` says, against what the same backfill takes then.

Each range is planned and run in one warm solo environment, from a load server that counts calls, requests and bytes:

    devnet    blocks 0 to 2,999 of the devnet, small and all alike
    era1      blocks 0 to 8,191 of mainnet, empty, in ../shared/chain-data
    mainnet   2,000 mainnet-like blocks of 703 kB of JSON each, at 50 ms of latency
    grown     2,000 blocks that get larger along the chain, from nothing to some 40 transactions: nowhere is a
              block like the mean

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.backfill import WARM_BLOCKS, load_server, place, warm
from tests.benchmarks.usage import finished
from tests.fakes.http import fetch
from tests.fakes.places import CHAIN_DATA
from tests.fakes.process import running


@dataclass(frozen=True)
class Range:
    """A chain to serve, and how many of its blocks to plan and run."""

    serve: Callable[[], AbstractContextManager[str]]
    blocks: int
    real: bool = False


@contextmanager
def chain_server(chain: str, blocks: int) -> Iterator[str]:
    """The address of a server of :mod:`tests.benchmarks.load.chains`."""
    command = [sys.executable, "-m", "tests.benchmarks.load.chains", chain, "--blocks", str(blocks)]
    with running(command, r"LISTENING (\S+)", ready_secs=120) as ready:
        yield ready[1]


def ranges(scale: float = 1.0) -> dict[str, Range]:
    """By name; ``scale`` makes them smaller."""
    devnet, mainnet, grown = (round(scale * blocks) for blocks in (3000, 2000, 2000))
    return {
        "devnet": Range(lambda: chain_server("devnet", devnet + 100), devnet),
        "era1": Range(lambda: chain_server("era1", 0), round(scale * 8192), real=True),
        "mainnet": Range(lambda: load_server("mainnet", mainnet, ["--latency-ms", "50"]), mainnet, real=True),
        "grown": Range(lambda: chain_server("grown", grown - 1), grown),
    }


def compared(name: str, url: str, amp_dir: Path, blocks: int) -> dict[str, Any]:
    """Plan, run, and plan again; for each figure ``[estimate, low, high, actual]``."""
    command = [sys.executable, "-m", "ampd_ray", "backfill", "--rpc", url, "--blocks", f"0:{blocks}"]
    command += ["--network", f"chain_of_{name}", "--amp-dir", str(amp_dir), "--quiet", "--json"]
    plan = _last([*command, "--plan"], amp_dir)
    before, began = fetch(url), time.monotonic()
    summary = _last(command, amp_dir)
    summary["seconds"] = time.monotonic() - began
    after = fetch(url)
    counted = {figure: after[figure] - before[figure] for figure in ("calls", "requests", "bytes")}
    again = _last([*command, "--plan"], amp_dir)
    assert (again["blocks"], again["covered"]) == (0, blocks), again
    return _pairs(plan, summary, counted)


def _pairs(plan: Mapping[str, Any], summary: Mapping[str, Any], counted: Mapping[str, int]) -> dict[str, Any]:
    (here,) = (each for each in plan["times"] if each["here"])
    calls = [sum(values) for values in zip(*plan["calls"].values(), strict=True)]
    files = sum(plan["files"].values())
    pairs = {
        "blocks": [plan["blocks"]] * 3 + [summary["blocks"]],
        "calls": [*calls, counted["calls"]],
        "requests": [*plan["requests"], counted["requests"]],
        "wire_bytes": [*plan["wire_bytes"], counted["bytes"]],
        **{f"rows of {table}": [*rows, summary["rows"][table]] for table, rows in plan["rows"].items()},
        "files": [files, files, files, summary["files"]],
        "parquet_bytes": [*plan["parquet_bytes"], summary["bytes"]],
        "seconds": [*here["seconds"], summary["seconds"]],
    }
    return pairs | {"limit": here["limit"], "sampled": plan["sampled"], "sample_secs": plan["seconds"]}


def _last(command: Sequence[str], amp_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(finished(command, amp_dir / "client.log").output.splitlines()[-1])
    return found


def table(found: Mapping[str, Any]) -> str:
    """A line for each figure; ``in`` says whether the true one is within the interval."""
    lines = [f"  {'':22}{'estimate':>15}{'low':>15}{'high':>15}{'actual':>15}{'actual/est.':>13}  in"]
    for figure, values in found.items():
        if isinstance(values, list):
            value, low, high, actual = values
            cells = "".join(f"{each:>15,.0f}" for each in values)
            ratio = f"{actual / value:>13.3f}" if value else f"{'':13}"
            lines.append(f"  {figure:22}{cells}{ratio}  {'yes' if low <= actual <= high else 'no'}")
    return "\n".join(lines)


def measure(names: Sequence[str], scale: float = 1.0) -> dict[str, Any]:
    """All of them, in one environment; prints as it goes, returns the record."""
    record: dict[str, Any] = {}
    with place() as amp_dir, chain_server("devnet", WARM_BLOCKS) as warming, warm(amp_dir, warming):
        for name in names:
            chosen = ranges(scale)[name]
            if chosen.real and not CHAIN_DATA.is_dir():
                print(f"-- {name}: skipped, since its blocks are in ../shared/chain-data, which is not there")
                continue
            with chosen.serve() as url:
                record[name] = compared(name, url, amp_dir, chosen.blocks)
            found = record[name]
            print(f"-- {name}: by {found['sampled']} blocks in {found['sample_secs']:.1f} s; limit {found['limit']}")
            print(table(found), flush=True)
    return record


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranges", nargs="+", choices=list(ranges()), default=list(ranges()))
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of blocks")
    given = parser.parse_args()
    print(json.dumps(measure(given.ranges, given.scale)))


if __name__ == "__main__":
    main()
