"""``python -m tests.benchmarks.fuzz --count N``: spoil recorded answers N times; crashes, wrong rows, memory, rate.

Every mutant follows from ``--seed`` and its number. ``--guided`` lets atheris choose the bytes by the coverage of the
product's Python code instead; it needs ``pip install atheris`` and ends with the first finding. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from tests.fakes.places import CHAIN_DATA
from tests.judged import Judge, Verdict
from tests.mutants import KINDS, Seed, Step, mutant, random_steps, seeds

TOLD = 20  # findings that are printed


def main() -> None:
    """Parse the arguments and run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=1_000_000, help="mutants to try")
    options.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--guided", action="store_true", help="by coverage, with atheris")
    chosen = options.parse_args()
    logging.disable(logging.CRITICAL)
    if chosen.guided:
        guided(chosen.count, chosen.seed)
    else:
        print(json.dumps(blind(chosen.count, chosen.seconds, chosen.seed)))


def blind(count: int, seconds: float, seed: int) -> dict[str, float]:
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


def guided(count: int, seed: int) -> None:
    """Let atheris find steps; libFuzzer prints its own figures, and does not return."""
    try:
        atheris: Any = import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    recorded = seeds(CHAIN_DATA)
    with Judge() as judge:

        def try_one(data: bytes) -> None:
            given = atheris.FuzzedDataProvider(data)
            chosen = recorded[given.ConsumeIntInRange(0, len(recorded) - 1)]
            steps = [
                Step(given.ConsumeIntInRange(0, KINDS - 1), given.ConsumeProbability() % 1, given.ConsumeUInt(4))
                for _ in range(given.ConsumeIntInRange(1, 6))
            ]
            verdict = judge.verdict(chosen, mutant(chosen, steps))
            assert verdict is not Verdict.WRONG, (chosen.name, steps)

        atheris.instrument_all()
        atheris.Setup([sys.argv[0], f"-runs={count}", f"-seed={seed}", "-max_len=80"], try_one)
        atheris.Fuzz()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
