"""What verification costs: CPU of the levels ``roots`` and ``full`` as factors of what a run without it costs.

``python -m tests.benchmarks.verification [ROUNDS]``. One process, real blocks with their answers at hand. Each
step's CPU time is the least of all rounds, so that a busy machine spoils little. The plain run is JSON parsed,
the strict integrity checks, decoding (all three by the compiled path, but for what that declines), and Parquet with
zstd; fetching, handing over and committing are left out, so that the whole system's factor is smaller.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ampd_ray.datasets.evm.checks import check
from ampd_ray.datasets.evm.decode import decode
from ampd_ray.datasets.evm.intake import Intake
from ampd_ray.datasets.evm.rpc import BlockAndReceipts, BlockText, quantity
from ampd_ray.datasets.evm.verify import Level, verify_blocks
from tests.fakes.places import CHAIN_DATA
from tests.reference import read_set

SETS = ("rpc-mainnet", "mainnet-forks", "testchain-execution-apis", "mainnet-era1-00000")
PARTS = ("block", "receipts")
PLAIN = ("rows", "encode")

_decoder = msgspec.json.Decoder(BlockAndReceipts)
_encode_json = msgspec.json.Encoder().encode


def steps(folder: Path) -> dict[str, Callable[[], object]]:
    """Each step of a run over the blocks of one set."""
    answers = list(read_set(folder))
    blocks = [_decoder.decode(_encode_json(answer)) for answer in answers]
    texts = [
        BlockText(quantity(block.block.number), *(msgspec.Raw(_encode_json(answer[part])) for part in PARTS))
        for answer, block in zip(answers, blocks, strict=True)
    ]
    tables = decode(blocks, folder.name)
    return {
        "rows": lambda: _rows(texts, blocks, folder.name),
        "encode": lambda: [_encode(table) for table in tables.values()],
        "roots": lambda: verify_blocks(tables, blocks, Level.ROOTS),
        "full": lambda: verify_blocks(tables, blocks, Level.FULL),
    }


def _rows(texts: Sequence[BlockText], blocks: Sequence[BlockAndReceipts], network: str) -> None:
    intake = Intake(network)
    for text, block in zip(texts, blocks, strict=True):
        if not intake.take(text):
            intake.add(check(block.block, block.receipts, text.number, network))
    intake.finish()


def _encode(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, version="2.6", compression="zstd", compression_level=1)
    return sink.getvalue()


def cpu_milliseconds(folder: Path, rounds: int) -> dict[str, float]:
    """The least CPU time of each step."""
    least: dict[str, float] = {}
    measured = steps(folder)
    for _ in range(rounds):
        for name, step in measured.items():
            started = time.process_time()
            step()
            taken = 1e3 * (time.process_time() - started)
            least[name] = min(taken, least.get(name, taken))
    return least


def main(rounds: int) -> None:
    """Print a line for each set: milliseconds, then the factors of the plain decode and of the plain run."""
    print(f"{'set':26}" + "".join(f"{name:>9}" for name in (*PLAIN, "roots", "full")) + "   x rows       x run")
    for name in SETS:
        cost = cpu_milliseconds(CHAIN_DATA / name, rounds)
        run = sum(cost[step] for step in PLAIN)
        factors = [[1 + cost[level] / plain for level in ("roots", "full")] for plain in (cost["rows"], run)]
        shown = "".join(f"   {roots:4.2f} {full:5.2f}" for roots, full in factors)
        print(f"{name:26}" + "".join(f"{cost[step]:9.2f}" for step in cost) + shown, flush=True)


if __name__ == "__main__":
    if not CHAIN_DATA.is_dir():
        sys.exit("the benchmark verifies real blocks from ../shared/chain-data, which is not there")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
