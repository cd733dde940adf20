"""``python -m tests.simulator --seeds 20000``: many seeds, a line a few seconds, and JSON in the end.

Exits with 1 on a violation, after its trace; ``--first N --seeds 1 --trace`` shows any seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.simulator.batch import Batch, Totals, server
from tests.simulator.faults import COUNTED
from tests.simulator.mutants import MUTANTS

REPORT_EVERY_SECS = 10.0
SHOWN_MAX = 5


class Progress:
    """Says now and then how far it is, how fast it goes, and when it will be done."""

    def __init__(self, seeds: int):
        self.started = time.monotonic()
        self._seeds = seeds
        self._next = self.started + REPORT_EVERY_SECS

    @property
    def secs(self) -> float:
        return time.monotonic() - self.started

    def __call__(self, totals: Totals) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + REPORT_EVERY_SECS
            rate = totals.seeds / self.secs
            left = (self._seeds - totals.seeds) / rate
            bad = len(totals.violations)
            print(f"{totals.seeds} of {self._seeds} seeds, {bad} bad, {rate:.1f}/s, {left:.0f} s to go", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="switch this guard off; stop when it is missed")
    parser.add_argument("--trace", action="store_true", help="print what happens in the first of them")
    asked = parser.parse_args(arguments)
    seeds = range(asked.first, asked.first + asked.seeds)
    with server() as url, Batch(url, asked.processes) as batch:
        progress = Progress(asked.seeds)
        totals = batch.run(
            seeds,
            mutant=asked.mutant,
            violations_max=1 if asked.mutant else SHOWN_MAX,
            on_progress=progress,
        )
        secs = progress.secs
        bad = sorted(result.seed for result in totals.violations)
        for seed in bad[:1] or (seeds if asked.trace else ())[:1]:
            (shown,) = batch.run([seed], mutant=asked.mutant, keep_trace=True).traced
            print("\n".join(shown.trace))
        for result in sorted(totals.violations, key=lambda each: each.seed):
            print(f"seed {result.seed}: {result.violation}")
    counts = {kind: totals.counts[kind] for kind in COUNTED}
    summary = {"seeds": totals.seeds, "violations": len(bad), "steps": totals.steps, **counts}
    print(json.dumps({**summary, "digest": totals.digest, "secs": round(secs, 1)}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
