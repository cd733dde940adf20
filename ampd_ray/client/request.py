"""What a backfill asks for, and what its provider says of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ampd_ray.chain.expression import RangeExpr, parse_range
from ampd_ray.chain.ranges import Span
from ampd_ray.client.loop import LoopThread
from ampd_ray.datasets import names
from ampd_ray.datasets.networks import chain_of, network_name
from ampd_ray.datasets.tables import TABLES
from ampd_ray.errors import InvalidName, WrongChain

if TYPE_CHECKING:
    from ampd_ray.providers.evm_rpc import Head

# Of one call of the probe, retries and all: a person waits for it.
PROBE_SECS = 5


@dataclass(frozen=True)
class BackfillRequest:
    """What to extract. ``blocks`` is a range text (``ampd_ray.chain.expression``), its end excluded.

    ``verify``: True recomputes each block's hash and roots before its rows are written, ``"full"`` transaction hashes
    and senders too. ``priority``, 1 to 100, is its weight among the jobs of its worker; None: 10.
    """

    rpc: str = field(repr=False)  # its key is often in it
    blocks: str
    network: str | None = None
    tables: tuple[str, ...] | None = None
    writers: int = 1
    verify: bool | Literal["full"] = False
    priority: int | None = None
    auth_token: str | None = field(default=None, repr=False)

    def checked(self) -> RangeExpr:
        """The parsed range; raises ``InvalidRange`` or ``InvalidName`` before anything is started."""
        if self.network is not None:
            names.network(self.network)
        unknown = sorted(set(self.tables or ()) - set(TABLES))
        if unknown:
            raise InvalidName(f"there is no table {unknown[0]!r}; the tables are {', '.join(TABLES)}")
        return parse_range(self.blocks)

    def resolved(self, found: Probe) -> Span:
        """The blocks that the range means at the provider's head; ``InvalidRange`` if it reaches beyond that."""
        return self.checked().resolve(found.head.number)

    def network_of(self, found: Probe) -> str:
        """The network's name: as asked, or by the chain id."""
        return self.network or network_name(found.chain_id)

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
    """``ask`` for callers that have no session yet."""
    loop = LoopThread()
    try:
        return loop.run(ask(request))
    finally:
        loop.close()


async def ask(request: BackfillRequest) -> Probe:
    """Ask the provider for its chain and head; within seconds, or it raises a ``ProviderError``.

    Raises ``ConfigError`` for an address that cannot be used, ``WrongChain`` for a network of another chain.
    """
    from ampd_ray.providers.evm_rpc import EvmRpcSource, Timing
    from ampd_ray.providers.registry import ProviderConfig

    given = ProviderConfig(
        name="rpc", network=request.network or "unknown", timeout_secs=PROBE_SECS, **request.provider_keys()
    )
    config = given.resolved(os.environ)
    source = EvmRpcSource(config, timing=Timing(give_up_secs=PROBE_SECS))
    try:
        found = Probe(await source.chain_id(), await source.head("latest"))
    finally:
        await source.close()
    expected = chain_of(request.network or "", {})
    if expected not in (None, found.chain_id):
        raise WrongChain(
            f"the provider at {config.host} serves chain {found.chain_id} ({network_name(found.chain_id)}), but "
            f"{request.network} is chain {expected}. Correct the address, or leave --network out."
        )
    return found
