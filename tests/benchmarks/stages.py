"""``make bench-stages``: what each stage of a block's way costs alone, so that a regression names its stage.

One process, blocks of the load server. CPU milliseconds a block, the least of all rounds, so that a busy machine spoils
little; the fetch waits for a server of its own, whose CPU is not counted. The commit is that of a whole segment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import msgspec

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm import native
from ampd_ray.datasets.evm.blocks import Headers
from ampd_ray.datasets.evm.checks import check
from ampd_ray.datasets.evm.decode import decode, links
from ampd_ray.datasets.evm.logs import decode_logs
from ampd_ray.datasets.evm.rpc import BLOCK, GLANCE, RECEIPTS, BlockAndReceipts
from ampd_ray.datasets.evm.transactions import decode_transactions
from ampd_ray.materialize.encode import TableFile
from ampd_ray.materialize.types import Extract, WriterOptions
from ampd_ray.providers.evm_rpc import EvmRpcSource
from tests.benchmarks import commits
from tests.benchmarks.backfill import load_server
from tests.benchmarks.load.blocks import MIXES, Chain, templates
from tests.fakes.places import CHAIN_DATA
from tests.fakes.providers import provider

NETWORK: Final = "mainnet"
Step = Callable[[], object]


class Stages:
    """The steps of ``blocks`` blocks of a mix, each with its input at hand."""

    def __init__(self, mix: str, blocks: int, scratch: Path) -> None:
        chain = Chain(templates(CHAIN_DATA, mix), blocks)
        served = [each for each in map(chain.at, range(blocks)) if each is not None]
        self._texts = [(msgspec.Raw(each.block), msgspec.Raw(each.receipts)) for each in served]
        self._scratch = scratch
        self._blocks = self._parse()
        self._tables = decode(self._blocks, NETWORK)
        self._extract = Extract(Span(0, blocks - 1), links(self._blocks, NETWORK), self._tables)
        self._files = 0

    def steps(self) -> dict[str, Step]:
        """By name; the pure path does in three what the compiled one does in one, and those of tables are parts."""
        headers = Headers(self._blocks, NETWORK)
        compiled: dict[str, Step] = {"compiled": self._compiled} if native.available else {}
        return {
            "glance": lambda: [GLANCE.decode(block) for block, _ in self._texts],
            **compiled,
            "pure: parse": self._parse,
            "pure: check": lambda: [check(b.block, b.receipts, n, NETWORK) for n, b in enumerate(self._blocks)],
            "pure: decode": lambda: decode(self._blocks, NETWORK),
            "  transactions": lambda: decode_transactions(headers),
            "  logs": lambda: decode_logs(headers),
            "hand over": lambda: handed_over(self._extract),
            "parquet": self._encode,
        }

    def _compiled(self) -> None:
        rows = native.Rows()
        assert all(rows.add(number, *text) for number, text in enumerate(self._texts)), rows.declined
        rows.finish()

    def _parse(self) -> list[BlockAndReceipts]:
        parsed = [(BLOCK.decode(block), RECEIPTS.decode(receipts)) for block, receipts in self._texts]
        return [
            BlockAndReceipts(block, [each for each in receipts or () if each]) for block, receipts in parsed if block
        ]

    def _encode(self) -> None:
        for name, table in self._tables.items():
            self._files += 1
            file = TableFile(self._scratch / f"{self._files}.parquet", name, WriterOptions())
            file.write(table)
            file.close({})


def handed_over(extract: Extract) -> Any:
    """What Ray does with a returned value: pickled with its buffers apart, those copied once, and read in place."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(extract, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(head, buffers=[bytes(buffer.raw()) for buffer in buffers])


def cpu_ms(step: Step, rounds: int) -> float:
    """The least CPU time of a step, in milliseconds."""
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        step()
        taken.append(time.process_time() - started)
    return 1000 * min(taken)


async def fetch_ms(url: str, blocks: int, rounds: int) -> float:
    """HTTP with all that the source does about an answer, a glance among it; nothing is parsed."""
    source = EvmRpcSource(provider(url))
    taken = []
    try:
        await source.start()
        for _ in range(rounds):
            started = time.process_time()
            async with aclosing(source.fetch(Span(0, blocks - 1), lambda text: True)) as left:
                assert [block async for block in left] == []
            taken.append(time.process_time() - started)
    finally:
        await source.close()
    return 1000 * min(taken)


def measure(mix: str, blocks: int, rounds: int) -> dict[str, float]:
    """Milliseconds of CPU a block, by stage."""
    with load_server(mix, blocks) as url:
        found = {"fetch": asyncio.run(fetch_ms(url, blocks, rounds))}
    with tempfile.TemporaryDirectory(prefix="ampd-stages-") as scratch:
        found |= {name: cpu_ms(step, rounds) for name, step in Stages(mix, blocks, Path(scratch)).steps().items()}
    return {name: round(taken / blocks, 3) for name, taken in found.items()}


def main() -> None:
    """Measure, print a line for each stage, and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mix", choices=sorted(MIXES), default="mainnet")
    parser.add_argument("--blocks", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--segments", type=int, default=100, help="to commit")
    given = parser.parse_args()
    found: dict[str, Any] = dict(measure(given.mix, given.blocks, given.rounds))
    for name, taken in found.items():
        print(f"{name:16}{taken:8.3f} ms of CPU a block")
    found["commit"] = commits.measure(given.segments, [1])["1"]
    print(json.dumps(found))


if __name__ == "__main__":
    if not CHAIN_DATA.is_dir():
        sys.exit("the benchmark takes real blocks from ../shared/chain-data, which is not there")
    main()
