"""Figures of fail-over, with real ``ampd worker`` processes on real Ray; each ends with one line of JSON.

    python -m tests.benchmarks.failover takeover --kills 100    a job's node dies: how soon it runs elsewhere
    python -m tests.benchmarks.failover sigterm --runs 100      SIGTERM with an open segment: how soon it ends with 0
    python -m tests.benchmarks.failover pairs --runs 100        one Node ID started twice at the same time
    python -m tests.benchmarks.failover idle --minutes 60       all cores busy with something else: nobody is taken over

The exit code is 1 if something happened that never may.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks import idle, pairs, sigterm, takeover
from tests.benchmarks.stage import own_server
from tests.servers import Server

BENCHMARKS: dict[str, tuple[Callable[[Server, int], dict[str, Any]], str, int]] = {
    "takeover": (takeover.measure, "--kills", 100),
    "sigterm": (sigterm.measure, "--runs", 100),
    "pairs": (pairs.measure, "--runs", 100),
    "idle": (idle.measure, "--minutes", 60),
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (_, option, default) in BENCHMARKS.items():
        commands.add_parser(name).add_argument(option, dest="count", type=int, default=default)
    arguments = parser.parse_args()
    measure = BENCHMARKS[arguments.benchmark][0]
    started = time.monotonic()
    with own_server() as server:
        record = measure(server, arguments.count)
    print(json.dumps(record | {"wall_secs": round(time.monotonic() - started)}))
    sys.exit(1 if record.get("wrong") else 0)


if __name__ == "__main__":
    main()
