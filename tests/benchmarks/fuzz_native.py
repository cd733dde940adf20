"""``python -m tests.benchmarks.fuzz_native --count N``: spoil blocks N times; what the native path takes must be right.

Right is what the pure path accepts with the same rows. ``--sanitize`` builds the extension anew with the sanitizers of
addresses and of undefined behaviour, and ends with their report if they have one. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

EXTENSION = "ampd_ray.datasets.evm._native"
SOURCE = Path(__file__).parents[2] / "ampd_ray" / "datasets" / "evm" / "_native.c"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")
PRELOADED = ("libasan.so", "libstdc++.so")  # the second, or errors of Arrow's C++ cannot be thrown
BUILT = "--built"

MADE = (6, 7)  # made-up blocks of each type, and where their numbers start
BLANKS = ("", "", " ", "\n", "\t ", "\r\n")
VALUES: tuple[Any, ...] = (
    None,
    None,
    "0x0",
    "0x1",
    "0x2",
    "0x1b",
    "0x25",
    "0xffffffffffffffff",
    hex(10**38),
    [],
    False,
    True,
    1,
)
FRAGMENTS = (  # of JSON, or nearly, for fields that nobody reads
    *("0", "-0", "01", "-", "1.", ".5", "1.50", "1e", "1e5", "1E+05", "1e-400", "1e999", "+1", "NaN", "Infinity"),
    *("9" * 400, "null", "nul", "true", "truefalse", "false", "[]", "[,]", "[1,]", "[1 2]", "{}", '{"a"}', '{"a":}'),
    *('{"a":1,}', "{a:1}", '{"a":1 "b":2}', '""', '"', '"a', '"\\n"', '"\\u00e9"', '"é"', '"\x7f"', '"\t"', '"\x00"'),
    *(
        "[" * 31 + "]" * 31,
        "[" * 33 + "]" * 33,
        "[" * 50_000,
        "[" * 50_000 + "]" * 50_000,
        '{"a":' * 20 + "1" + "}" * 20,
        "[}",
        "/**/1",
        "'a'",
        "",
    ),
)


def main() -> None:
    """Parse the arguments and run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=100_000, help="mutants to try")
    options.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--sanitize", action="store_true", help="with an extension that finds errors of memory")
    options.add_argument(BUILT, type=Path, help="use this extension")
    chosen = options.parse_args()
    if chosen.sanitize:
        again([argument for argument in sys.argv[1:] if argument != "--sanitize"])
    if chosen.built:
        use(chosen.built)
    print(json.dumps(fuzz(chosen.count, chosen.seconds, chosen.seed)))


def again(arguments: Sequence[str]) -> None:
    """The same once more with the sanitizers, which must be there before anything else is. Does not return."""
    folder = Path(tempfile.mkdtemp(prefix="native-"))
    built = folder / "_native.abi3.so"
    include = sysconfig.get_paths()["include"]
    subprocess.run(["cc", "-std=c11", "-fPIC", "-shared", *SANITIZERS, f"-I{include}", SOURCE, "-o", built], check=True)
    found = [subprocess.check_output(["cc", f"-print-file-name={name}"], text=True).strip() for name in PRELOADED]
    settings = {"LD_PRELOAD": " ".join(found), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-m", "tests.benchmarks.fuzz_native", *arguments, BUILT, str(built)]
    os.execve(sys.executable, command, os.environ | settings)


def use(built: Path) -> None:
    """Import another extension than the one that is installed."""
    spec = importlib.util.spec_from_file_location(EXTENSION, built)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    sys.modules[EXTENSION] = importlib.util.module_from_spec(spec)


def fuzz(count: int, seconds: float, seed: int) -> dict[str, Any]:
    """Try mutants until one is taken that must not be, or is decoded otherwise (AssertionError, or the pure error)."""
    from ampd_ray.datasets.evm.native import Rows
    from tests.both_paths import added, assert_rows

    chance = random.Random(seed)
    bases = Bases()
    started = time.monotonic()
    found: Counter[str] = Counter()
    while found.total() < count and time.monotonic() - started < seconds:
        rows, taken = Rows(), []
        for spoiled in bases.spoiled(chance):
            if added(rows, spoiled):
                taken.append(spoiled)
            found["declined" if rows.declined else "taken"] += 1
        try:
            assert_rows(rows, taken)
        except BaseException:
            print(f"WRONG, one of {len(taken)}: {taken}", flush=True)
            raise
    took = time.monotonic() - started
    return {**found, "seconds": round(took, 1), "per_second": round(found.total() / took)}


class Bases:
    """Blocks of ascending numbers to start from: recorded ones where they are there, and made-up ones."""

    def __init__(self) -> None:
        from tests.both_paths import plainer
        from tests.fakes.evm_blocks import BlockMaker
        from tests.fakes.places import CHAIN_DATA
        from tests.mutants import Seed, seeds

        each, first = MADE
        made = [BlockMaker(nth, kind) for nth in range(each) for kind in range(5)]
        answers = [(first + nth, plainer(maker.block(first + nth))) for nth, maker in enumerate(made)]
        self._bases = {n: Seed(f"made/{n}", n, 1, json.dumps([a["block"], a["receipts"]])) for n, a in answers}
        if CHAIN_DATA.exists():
            self._bases |= {seed.number: seed for seed in seeds(CHAIN_DATA)}

    def spoiled(self, chance: random.Random) -> Iterator[Any]:
        """A mutant of each, by number: of values, of text, of layout; some are left as they are."""
        from tests.both_paths import Texts
        from tests.mutants import changed, random_steps, respelled

        for number, base in sorted(self._bases.items()):
            steps = random_steps(chance)[: chance.randrange(4)]
            layout = chance.random() < 0.5
            tree = changed(base, [step for step in steps if not layout or chance.random() < 0.5])
            if chance.random() < 0.3:
                spoil_a_field(tree, chance)
            block, receipts = (laid_out(part, chance) if layout else json.dumps(part) for part in tree)
            whole = (block.encode(), receipts.encode())
            yield Texts(number, *(whole if layout and chance.random() < 0.8 else respelled(whole, steps)))


def spoil_a_field(tree: Any, chance: random.Random) -> None:
    """Leave out or change one field of an object, each kind of object as often as the others."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    waiting: list[tuple[str, Any]] = [("", tree)]
    for name, value in waiting:
        if isinstance(value, dict):
            by_kind.setdefault(name, []).append(value)
        waiting += value.items() if isinstance(value, dict) else ()
        waiting += [(f"{name}[]", item) for item in value] if isinstance(value, list) else ()
    if by_kind:
        chosen = chance.choice(by_kind[chance.choice(sorted(by_kind))])
        if chosen:
            field = chance.choice(sorted(chosen))
            chosen[field] = chance.choice(VALUES)
            if chance.random() < 0.3:
                del chosen[field]


def laid_out(value: Any, chance: random.Random) -> str:
    """The same JSON, or nearly: keys in any order, a few more of them, blanks, digits of the other case."""
    rate = chance.choice((0.0, 0.01, 0.2))
    odd = chance.random() * 0.004

    def blank() -> str:
        return chance.choice(BLANKS) if chance.random() < rate else ""

    def text(of: Any) -> str:
        if isinstance(of, dict):
            fields = [(json.dumps(name), text(field)) for name, field in of.items()]
            if chance.random() < rate:
                chance.shuffle(fields)
            if chance.random() < odd:
                fields.insert(chance.randrange(len(fields) + 1), ('"extra"', chance.choice(FRAGMENTS)))
            if chance.random() < odd / 4 and fields:
                fields.append(chance.choice(fields))
            return "{" + ",".join(f"{blank()}{name}{blank()}:{blank()}{field}{blank()}" for name, field in fields) + "}"
        if isinstance(of, list):
            return "[" + ",".join(f"{blank()}{text(item)}{blank()}" for item in of) + blank() + "]"
        if isinstance(of, str) and chance.random() < odd:
            of = of[:2] + chance.choice((of[2:].upper(), of[2:].lower(), "0" + of[2:], of[2:].lstrip("0")))
        return json.dumps(of)

    return blank() + text(value) + blank()


if __name__ == "__main__":
    main()
