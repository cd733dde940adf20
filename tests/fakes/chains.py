"""Blocks of a devnet as a source would deliver them, without a server."""

from __future__ import annotations

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.checks import check
from ampd_ray.datasets.evm.decode import decode, links
from ampd_ray.datasets.evm.rpc import BLOCK, RECEIPTS, BlockAndReceipts
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.devnet.chain import DevChain
from ampd_ray.materialize.types import Extract


def answers(chain: DevChain, span: Span) -> list[BlockAndReceipts]:
    """The checked blocks of ``span``."""
    found = []
    for number in range(span.start, span.end + 1):
        made = chain.block(number)
        assert made is not None
        block = BLOCK.decode(made.json(full=True))
        assert block is not None
        found.append(check(block, RECEIPTS.decode(made.receipts_json()), number, "devnet"))
    return found


def extract(chain: DevChain, span: Span) -> Extract:
    """What an extractor makes of ``span``."""
    blocks = answers(chain, span)
    return Extract(span, links(blocks, "devnet"), decode(blocks, "devnet", TABLES))
