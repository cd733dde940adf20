"""The networks that people name, and the chain that each name means."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

CHAIN_IDS = {
    "mainnet": 1,
    "optimism": 10,
    "cronos": 25,
    "bsc": 56,
    "gnosis": 100,
    "unichain": 130,
    "polygon": 137,
    "zksync": 324,
    "worldchain": 480,
    "devnet": 1337,
    "tempo": 4217,
    "base": 8453,
    "anvil": 31337,
    "arbitrum_one": 42161,
    "avalanche": 43114,
    "linea": 59144,
    "base_sepolia": 84532,
    "scroll": 534352,
    "sepolia": 11155111,
}

_UNNAMED = "chain_"
_NAMES = {chain_id: name for name, chain_id in CHAIN_IDS.items()}


def network_name(chain_id: int) -> str:
    """The network's name; ``chain_<id>`` if people have none for it."""
    return _NAMES.get(chain_id, f"{_UNNAMED}{chain_id}")


def chain_of(network: str, told: Mapping[str, int]) -> int | None:
    """The id of the chain that a network's name means: as ``told``, else as people use it; None if neither knows."""
    digits = network.removeprefix(_UNNAMED)
    unnamed = int(digits) if digits != network and digits.isascii() and digits.isdecimal() else None
    return told.get(network, CHAIN_IDS.get(network, unnamed))


def misspelt(network: str) -> str | None:
    """The name that people use and that this one looks like; None if it is one of them, or like none of them.

    A name with something behind it is another name: ``base_fork`` is meant.
    """
    if chain_of(network, {}) is not None:
        return None
    likely = get_close_matches(network.strip().lower(), CHAIN_IDS, n=1, cutoff=0.8)
    longer = any(network.startswith(f"{name}{mark}") for name in likely for mark in "_-.0123456789")
    return None if longer or not likely else likely[0]
