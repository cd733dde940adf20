"""``ampd devnet``: a chain of your own to try things on."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ampd_ray.cli.progress_line import ProgressLine

SAY_EVERY_SECS = 1.0

EXAMPLES = """\b
Examples:
  ampd devnet --blocks 1000                    # 1,000 blocks, then still
  ampd devnet --blocks 100 --block-time 1      # a new block every second
  curl -s 127.0.0.1:8545 -d '{"jsonrpc":"2.0","id":1,"method":"devnet_reorg","params":[3]}'
  curl -s 127.0.0.1:8545 -d '{"jsonrpc":"2.0","id":1,"method":"devnet_spoil","params":[17]}'   # one receipt less"""


def devnet(
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="Blocks to begin with.")] = 1000,
    block_time: Annotated[float, typer.Option("--block-time", min=0, help="Seconds to the next block; 0: none.")] = 0.0,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0: any free one.")] = 8545,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another chain.")] = 1,
) -> None:
    """Serve a chain of your own over JSON-RPC. Small, valid, deterministic, on loopback."""
    from ampd_ray.devnet.server import announce, run

    line = ProgressLine(
        sys.stderr,
        plain_every_secs=SAY_EVERY_SECS,
        text=lambda number, secs: f"making the chain: {number:,} of {blocks:,} blocks",
    )

    def ready(url: str) -> None:
        line.end()
        announce(url)

    try:
        run(port=port, blocks=blocks, block_time=block_time, seed=seed, on_ready=ready, on_block=line.update)
    finally:
        line.end()
