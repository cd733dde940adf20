"""The networks that people name, and the chain that each name means."""

from __future__ import annotations

CHAIN_IDS = {
    "mainnet": 1,
    "optimism": 10,
    "bsc": 56,
    "gnosis": 100,
    "unichain": 130,
    "polygon": 137,
    "zksync": 324,
    "worldchain": 480,
    "devnet": 1337,
    "base": 8453,
    "anvil": 31337,
    "arbitrum_one": 42161,
    "avalanche": 43114,
    "linea": 59144,
    "base_sepolia": 84532,
    "scroll": 534352,
    "sepolia": 11155111,
}

_NAMES = {chain_id: name for name, chain_id in CHAIN_IDS.items()}


def network_name(chain_id: int) -> str:
    """The network's name; ``chain_<id>`` if people have none for it."""
    return _NAMES.get(chain_id, f"chain_{chain_id}")
