"""``python -m tests.chaos.losses --minutes 10``: a Ray node lost each 20 s, a line each; at the end a line of JSON."""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from tests.chaos.losses.plan import steps
from tests.chaos.losses.run import run

EVERY_SECS = 20.0


def main() -> int:
    """1 if an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.losses", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long; a Ray node is lost each 20 s")
    parser.add_argument("--seed", type=int, default=1, help="which are lost amid what")
    arguments = parser.parse_args()
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever is told to end cleans up first
    return run(steps(arguments.seed, max(1, round(arguments.minutes * 60 / EVERY_SECS))), EVERY_SECS)


if __name__ == "__main__":
    sys.exit(main())
