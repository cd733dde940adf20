"""Provider configurations for tests."""

from contextlib import aclosing
from typing import Any

from pydantic import SecretStr

from ampd_ray.chain.ranges import Span
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.materialize.sources import BlockSource
from ampd_ray.providers.registry import ProviderConfig


def provider(url: str, **settings: Any) -> ProviderConfig:
    """A provider of the network ``test`` at ``url``."""
    fields: dict[str, Any] = {"name": "test_1", "kind": "evm-rpc", "network": "test", "url": SecretStr(url)} | settings
    return ProviderConfig(**fields)


async def all_of(source: BlockSource, span: Span) -> list[BlockAndReceipts]:
    """All blocks of a span."""
    async with aclosing(source.fetch(span)) as blocks:
        return [block async for block in blocks]
