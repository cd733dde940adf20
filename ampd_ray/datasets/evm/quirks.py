"""What single chains do differently, and why: checks that they fail by nature, a transaction that no root covers.

A chain that is not listed starts strict, and is taken to hash as Ethereum does. Where it fails a check for ever its
blocks stop with that check's name; its provider's file may then say ``integrity = "basic"`` until the chain is listed
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Literal, NamedTuple

from ampd_ray.datasets.evm.hashing import keccak256
from ampd_ray.datasets.evm.verdicts import Check

Level = Literal["strict", "basic"]


class Rule(StrEnum):
    """What only ``strict`` demands (data.md 2.2 and 2.3): each rule can be left out for a chain by its name."""

    EMPTY_ROOTS = "a block without transactions has the empty roots"
    POSITIONS = "transactionIndex of a receipt is its position"
    LOG_NUMBERS = "logIndex counts from 0"
    LOGS_COMPLETE = "the header's bloom has no bit that no log makes"
    LOGS_KNOWN = "the header's bloom has each bit that a log makes"
    GAS = "cumulativeGasUsed never falls and ends at the header's gasUsed"


class Chain(NamedTuple):
    """The rules that a chain breaks by nature, each with the reason.

    ``hashes`` names the checks of a verification that cannot be made, as the chain hashes something else there: what.
    """

    name: str
    breaks: Mapping[Rule, str]
    hashes: Mapping[Check, str] = MappingProxyType({})


_ORDINARY = Chain("any other", {})
_TENDERMINT: Mapping[Check, str] = {
    Check.BLOCK_HASH: "the header of Tendermint, whose hash it is",
    Check.TRANSACTIONS_ROOT: "the transactions of Tendermint, whose root it is",
    Check.RECEIPTS_ROOT: "a root of receipts: Ethermint answers the empty one",
}
_TEMPO: Mapping[Check, str] = {Check.BLOCK_HASH: "the fields that Tempo adds to a header, which no table stores"}

CHAINS: Mapping[int, Chain] = {
    25: Chain(
        "Cronos",
        {
            Rule.LOG_NUMBERS: "Ethermint numbered the logs of transactions that failed afterwards (block 11446765)",
            Rule.LOGS_COMPLETE: "Ethermint left the logs of transactions that failed afterwards in the bloom",
            Rule.GAS: "the header's gasUsed counts the Cosmos transactions of the block too",
        },
        _TENDERMINT,
    ),
    324: Chain(
        "ZKsync Era",
        {
            Rule.EMPTY_ROOTS: "its blocks have no transactions and receipts roots; nodes answer zeros",
            Rule.LOGS_COMPLETE: "the bloom may hold events that are of no transaction (zksync-era issue 4580)",
            Rule.LOGS_KNOWN: "older blocks have an empty bloom",
        },
        {
            Check.BLOCK_HASH: "ZKsync's own rule, which hashes number, time, parent and transaction hashes",
            Check.TRANSACTIONS_ROOT: "a root: its headers have none",
            Check.RECEIPTS_ROOT: "a root: its headers have none",
        },
    ),
    998: Chain("HyperEVM testnet", {Rule.LOGS_KNOWN: "neither bloom nor roots cover its system transactions"}),
    999: Chain("HyperEVM", {Rule.LOGS_KNOWN: "neither bloom nor roots cover its system transactions"}),
    9001: Chain(
        "Evmos",
        {
            Rule.LOGS_KNOWN: "the bloom is that of the block's last transaction (evmos issue 2264)",
            Rule.GAS: "the header's gasUsed counts the Cosmos transactions of the block too",
        },
        _TENDERMINT,
    ),
    4217: Chain("Tempo", {}, _TEMPO),
    42431: Chain("Tempo Moderato testnet", {}, _TEMPO),
}
"""By chain id. Polygon is not among them: :func:`state_sync_hash` tells what its roots leave out."""

STATE_SYNCED = frozenset({137, 80001, 80002})
"""Polygon and its testnets Mumbai and Amoy: the only chains whose blocks may have a transaction that no root covers."""

PLAIN = frozenset({1, 3, 4, 5, 56, 100, 17000, 560048, 11155111})
"""Ethereum and its testnets, BNB Smart Chain, Gnosis: no transactions but of the types of Ethereum (0 to 4)."""


@cache
def demanded(level: Level, chain_id: int | None = None) -> frozenset[Rule]:
    """The rules that a block of this chain must keep at this level; None is a chain that is not known."""
    if level == "basic":
        return frozenset()
    return frozenset(Rule) - _known_of(chain_id).breaks.keys()


def hashes_otherwise(chain_id: int | None) -> Mapping[Check, str]:
    """The checks of a verification that cannot be made on this chain, and what is missing for each."""
    return _known_of(chain_id).hashes


def _known_of(chain_id: int | None) -> Chain:
    return _ORDINARY if chain_id is None else CHAINS.get(chain_id, _ORDINARY)


def state_sync_hash(number: int, block_hash: bytes) -> bytes:
    """The hash of the synthetic transaction in which Polygon's Bor lists the state syncs of a block.

    Nobody signed it, it pays no gas, and neither the block's roots, nor its bloom, nor its gas cover it. Its hash
    is the Keccak-256 of this key, so that no other transaction can be taken for it; those that Bor made part of the
    block (type 0x7f, PIP-74) have another hash and are checked like any other.
    """
    return keccak256(b"matic-bor-receipt-" + number.to_bytes(8, "big") + block_hash)
