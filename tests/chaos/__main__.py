"""``python -m tests.chaos --seeds N [--first K]``: so many schedules, a line each, and a line of JSON at the end."""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from tests.chaos.run import run


def main() -> int:
    """1 if an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many schedules")
    parser.add_argument("--first", type=int, default=1, help="the seed of the first; the others follow")
    arguments = parser.parse_args()
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # sessions of ours that a restart ended
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever is told to end cleans up first
    return run(range(arguments.first, arguments.first + arguments.seeds))


if __name__ == "__main__":
    sys.exit(main())
