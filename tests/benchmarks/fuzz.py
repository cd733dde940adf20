"""``python -m tests.benchmarks.fuzz --count N``: spoil recorded answers N times; crashes, wrong rows, memory, rate.

The mutants follow from ``--seed``. The last line is JSON. ``tests.benchmarks.guided`` lets coverage choose them.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import time
import traceback
from collections import Counter
from collections.abc import Sequence

from tests.fakes.places import CHAIN_DATA
from tests.judged import Judge, Verdict
from tests.mutants import Seed, Step, mutant, random_steps, seeds

TOLD = 20  # findings that are printed


def main() -> None:
    """Parse the arguments and run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=1_000_000, help="mutants to try")
    options.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    logging.disable(logging.CRITICAL)
    print(json.dumps(fuzz(chosen.count, chosen.seconds, chosen.seed)))


def fuzz(count: int, seconds: float, seed: int) -> dict[str, float]:
    """Try random mutants; the figures."""
    recorded = seeds(CHAIN_DATA)
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    started, before = time.monotonic(), _peak_bytes()
    with Judge() as judge:
        while (tried := found.total()) < count and time.monotonic() - started < seconds:
            chosen, steps = chance.choice(recorded), random_steps(chance)
            found[_tried(judge, chosen, steps, tell=found["crashes"] + found["wrong"] < TOLD)] += 1
            if tried % 10_000 == 0:
                print(f"{tried} tried: {dict(found)}, peak {_peak_bytes() >> 20} MiB", flush=True)
    took = time.monotonic() - started
    figures = {name: found[name] for name in ("crashes", "wrong", "refused", "equal")}
    return figures | {
        "tried": found.total(),
        "seconds": round(took, 1),
        "per_second": round(found.total() / took, 1),
        "peak_mib": _peak_bytes() >> 20,
        "grown_mib": (_peak_bytes() - before) >> 20,
    }


def _tried(judge: Judge, seed: Seed, steps: Sequence[Step], *, tell: bool) -> str:
    try:
        verdict = judge.verdict(seed, mutant(seed, steps))
    except Exception:
        if tell:
            print(f"CRASH {seed.name} {steps}\n{traceback.format_exc(limit=-5)}", flush=True)
        return "crashes"
    if verdict is Verdict.WRONG and tell:
        print(f"WRONG {seed.name} {steps}", flush=True)
    return {Verdict.WRONG: "wrong", Verdict.REFUSED: "refused", Verdict.EQUAL: "equal"}[verdict]


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
