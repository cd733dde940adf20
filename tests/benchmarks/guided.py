"""``python -m tests.benchmarks.guided [libFuzzer's options]``: mutants chosen by the coverage of the product's code.

Needs ``pip install atheris``, which is not among the test dependencies. It ends with the first finding, and prints
libFuzzer's figures; ``-runs=N`` and ``-max_total_time=SECONDS`` bound it, a folder as argument keeps what it found.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any

from tests.fakes.places import CHAIN_DATA
from tests.mutants import KINDS, Step, mutant, seeds

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["ampd_ray.providers", "ampd_ray.datasets.evm"]):
    from tests.judged import Judge, Verdict


def main() -> None:
    """Run until something is found; does not return."""
    logging.disable(logging.CRITICAL)
    recorded = seeds(CHAIN_DATA)
    with Judge() as judge:

        def try_one(data: bytes) -> None:
            given = atheris.FuzzedDataProvider(data)
            chosen = recorded[given.ConsumeIntInRange(0, len(recorded) - 1)]
            steps = [
                Step(given.ConsumeIntInRange(0, KINDS - 1), given.ConsumeProbability() % 1, given.ConsumeUInt(4))
                for _ in range(given.ConsumeIntInRange(1, 6))
            ]
            assert judge.verdict(chosen, mutant(chosen, steps)) is not Verdict.WRONG, (chosen.name, steps)

        atheris.Setup([*sys.argv, "-max_len=80"], try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
