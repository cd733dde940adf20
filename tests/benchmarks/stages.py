"""``make bench-stages``: what each stage of a block's way costs alone, so that a regression names its stage.

One process, blocks of the load server. CPU milliseconds a block, the least of all rounds, so that a busy machine spoils
little; the fetch waits for a server of its own, whose CPU is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.blocks import Headers, decode_blocks
from ampd_ray.datasets.evm.checks import check
from ampd_ray.datasets.evm.decode import decode, links
from ampd_ray.datasets.evm.logs import decode_logs
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts
from ampd_ray.datasets.evm.transactions import decode_transactions
from ampd_ray.datasets.evm.verify import Level, verify_blocks
from ampd_ray.materialize.encode import TableFile
from ampd_ray.materialize.types import Extract, WriterOptions
from ampd_ray.providers.evm_rpc import EvmRpcSource
from tests.benchmarks.backfill import load_server
from tests.benchmarks.load.blocks import MIXES, Chain, templates
from tests.fakes.places import CHAIN_DATA
from tests.fakes.providers import all_of, provider

NETWORK: Final = "mainnet"
Step = Callable[[], object]


class Stages:
    """The steps of ``blocks`` blocks of a mix, each with its input at hand."""

    def __init__(self, mix: str, blocks: int, scratch: Path) -> None:
        served = [Chain(templates(CHAIN_DATA, mix), blocks).at(number) for number in range(blocks)]
        self._texts = [(each.block, each.receipts) for each in served if each is not None]
        self._span = Span(0, blocks - 1)
        self._scratch = scratch
        self._blocks = self._parse()
        self._tables = decode(self._blocks, NETWORK)
        self._extract = Extract(self._span, links(self._blocks, NETWORK), self._tables)
        self._files = 0

    def steps(self) -> dict[str, Step]:
        """By name, in the order of a block's way."""
        headers = Headers(self._blocks, NETWORK)
        return {
            "parse": self._parse,
            "check": lambda: [check(each.block, each.receipts, n, NETWORK) for n, each in enumerate(self._blocks)],
            "decode": lambda: decode(self._blocks, NETWORK),
            "hand over": lambda: handed_over(self._extract),
            "parquet": self._encode,
            "(blocks)": lambda: decode_blocks(headers),
            "(transactions)": lambda: decode_transactions(headers),
            "(logs)": lambda: decode_logs(headers),
            "(roots)": lambda: verify_blocks(self._tables, self._blocks, Level.ROOTS),
        }

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


def fetching(url: str, blocks: int, rounds: int) -> dict[str, float]:
    """The whole way of a block into checked structs, over HTTP: it includes parse and check."""

    async def fetch() -> float:
        source = EvmRpcSource(provider(url, concurrent_request_limit=32))
        try:
            await source.start()
            taken = []
            for _ in range(rounds):
                started = time.process_time()
                await all_of(source, Span(0, blocks - 1))
                taken.append(time.process_time() - started)
            return 1000 * min(taken)
        finally:
            await source.close()

    return {"fetch": asyncio.run(fetch())}


def measure(mix: str, blocks: int, rounds: int) -> dict[str, float]:
    """Milliseconds of CPU a block, by stage."""
    with tempfile.TemporaryDirectory(prefix="ampd-stages-") as scratch:
        steps = Stages(mix, blocks, Path(scratch)).steps()
        found = {name: cpu_ms(step, rounds) for name, step in steps.items()}
    with load_server(mix, blocks) as url:
        found |= fetching(url, blocks, rounds)
    found["http"] = max(0.0, found["fetch"] - found["parse"] - found["check"])
    return {name: round(taken / blocks, 3) for name, taken in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a line for each stage, and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mix", choices=sorted(MIXES), default="mainnet")
    parser.add_argument("--blocks", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(argv)
    found = measure(given.mix, given.blocks, given.rounds)
    for name, taken in found.items():
        print(f"{name:16}{taken:8.3f} ms of CPU a block")
    print(json.dumps(found))


if __name__ == "__main__":
    if not CHAIN_DATA.is_dir():
        sys.exit("the benchmark takes real blocks from ../shared/chain-data, which is not there")
    main()
