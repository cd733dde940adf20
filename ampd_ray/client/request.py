"""What a backfill asks for, and what its provider says of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ampd_ray.chain.expression import RangeExpr, parse_range
from ampd_ray.chain.ranges import Span
from ampd_ray.client.loop import LoopThread
from ampd_ray.datasets.manifest import TABLES
from ampd_ray.errors import InvalidName
from ampd_ray.providers.evm_rpc import EvmRpcSource, Head
from ampd_ray.providers.registry import ProviderConfig

# The networks that people run backfills on, by chain id; any other one is called chain_<id>.
NETWORKS = {
    1: "mainnet",
    10: "optimism",
    56: "bsc",
    100: "gnosis",
    130: "unichain",
    137: "polygon",
    324: "zksync",
    480: "worldchain",
    1337: "devnet",
    8453: "base",
    31337: "anvil",
    42161: "arbitrum_one",
    43114: "avalanche",
    59144: "linea",
    84532: "base_sepolia",
    534352: "scroll",
    11155111: "sepolia",
}


@dataclass(frozen=True)
class BackfillRequest:
    """What to extract. ``blocks`` is a range text (``ampd_ray.chain.expression``), its end excluded."""

    rpc: str
    blocks: str
    network: str | None = None
    tables: tuple[str, ...] | None = None
    writers: int = 1
    verify: bool = False
    auth_token: str | None = None

    def checked(self) -> RangeExpr:
        """The parsed range; raises ``InvalidRange`` or ``InvalidName`` before anything is started."""
        unknown = sorted(set(self.tables or ()) - set(TABLES))
        if unknown:
            raise InvalidName(f"there is no table {unknown[0]!r}; the tables are {', '.join(TABLES)}")
        return parse_range(self.blocks)

    def resolved(self, found: Probe) -> Span:
        """The blocks that the range means at the provider's head; ``InvalidRange`` if it reaches beyond that."""
        return self.checked().resolve(found.head.number)

    def network_of(self, found: Probe) -> str:
        """The network's name: as asked, or by the chain id."""
        return self.network or NETWORKS.get(found.chain_id, f"chain_{found.chain_id}")

    def provider_keys(self) -> dict[str, Any]:
        """The keys of the provider's file that the request decides."""
        keys: dict[str, Any] = {"url": self.rpc}
        if self.auth_token:
            keys["auth_token"] = self.auth_token
        return keys


@dataclass(frozen=True)
class Probe:
    """What the provider says of itself."""

    chain_id: int
    head: Head


def probe(request: BackfillRequest) -> Probe:
    """Ask the provider for its chain and head; raises a ``ProviderError`` within seconds."""
    config = ProviderConfig(name="backfill", network=request.network or "unknown", **request.provider_keys())
    resolved = config.resolved(os.environ)

    async def ask() -> Probe:
        source = EvmRpcSource(resolved)
        try:
            await source.start()
            return Probe(await source.chain_id(), await source.head("latest"))
        finally:
            await source.close()

    loop = LoopThread()
    try:
        return loop.run(ask())
    finally:
        loop.close()
