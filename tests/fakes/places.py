"""Where things are: the checkout, and what lies beside it."""

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SHARED = REPO.parent / "shared"
CHAIN_DATA = SHARED / "chain-data"
RPC_TOOLS = SHARED / "tools" / "rpc"
ANVIL = REPO / ".cache" / "anvil" / "anvil"
