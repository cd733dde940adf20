"""``python -m tests.benchmarks.load.chains``: a devnet's blocks, or real early ones, served and counted.

=========  ====================================================================================================
devnet     the chain of ``ampd devnet``
grown      the same, but its blocks get larger along the chain: from nothing to many transactions, ever faster
era1       the first 8,192 blocks of mainnet, which have no transactions
=========  ====================================================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ampd_ray.devnet.blocks import DevBlock
from ampd_ray.devnet.chain import TXS_PER_BLOCK, DevChain
from tests.benchmarks.load.blocks import Chain, Served
from tests.benchmarks.load.growth import Growth
from tests.benchmarks.load.server import Manners, Node, serve
from tests.fakes.places import CHAIN_DATA

ERA1: Final = "mainnet-era1-00000"
MOST_TXS: Final = 40  # of the last blocks of a chain that grows


class Given(Chain):
    """Blocks from elsewhere, each with its hash."""

    def __init__(self, blocks: Sequence[tuple[str, Served]]) -> None:
        self.total = self.length = len(blocks)
        self._blocks = [served for _, served in blocks]
        self._numbers = {hash_: number for number, (hash_, _) in enumerate(blocks)}

    def at(self, number: int) -> Served | None:
        """Block ``number``, if the chain has it."""
        return self._blocks[number] if 0 <= number < self.length else None


def devnet(blocks: int, *, growing: bool) -> Given:
    """Blocks 0 to ``blocks``."""
    chain = DevChain()
    for number in range(1, blocks + 1):
        chain.txs_per_block = round(MOST_TXS * (number / blocks) ** 2) if growing else TXS_PER_BLOCK
        chain.mine()
    found = [chain.block(number) for number in range(blocks + 1)]
    return Given([_of_devnet(block) for block in found if block is not None])


def _of_devnet(block: DevBlock) -> tuple[str, Served]:
    served = Served(block.json(full=True), block.json(full=False), block.receipts_json(), b"")
    return f"0x{block.hash.hex()}", served


def era1(chain_data: Path) -> Given:
    """They have no receipts."""
    found = []
    with gzip.open(chain_data / ERA1 / "blocks.jsonl.gz", "rt") as lines:
        for block in (json.loads(line)["block"] for line in lines):
            text = json.dumps(block, separators=(",", ":")).encode()
            found.append((block["hash"], Served(text, text, b"[]", b"")))
    return Given(found)


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chain", choices=("devnet", "grown", "era1"))
    parser.add_argument("--blocks", type=int, default=1000, help="of a devnet")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    given = parser.parse_args()
    chain = era1(CHAIN_DATA) if given.chain == "era1" else devnet(given.blocks, growing=given.chain == "grown")
    asyncio.run(serve(Node(Growth(chain, 1.0), Manners(given.latency_ms / 1000))))


if __name__ == "__main__":
    main()
