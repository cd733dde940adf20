"""Provider configurations for tests."""

from typing import Any

from pydantic import SecretStr

from ampd_ray.providers.registry import ProviderConfig


def provider(url: str, **settings: Any) -> ProviderConfig:
    """A provider of the network ``test`` at ``url``."""
    fields: dict[str, Any] = {"name": "test_1", "kind": "evm-rpc", "network": "test", "url": SecretStr(url)} | settings
    return ProviderConfig(**fields)
