"""One provider: the keys of its file, and the variables in them (``spec/data.md`` 2.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from ampd_ray.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([^}]*)(\}?)")

BLOCK, BLOCK_RECEIPTS, RECEIPT = "eth_getBlockByNumber", "eth_getBlockReceipts", "eth_getTransactionReceipt"
"""The methods that extraction is made of."""
DEFAULT_UNITS = "default"

Method = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
NotNegative = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


def _priced(units: dict[str, float]) -> dict[str, float]:
    lacking = {BLOCK, BLOCK_RECEIPTS, RECEIPT} - units.keys()
    if lacking and DEFAULT_UNITS not in units:
        raise ValueError(f'must name {", ".join(sorted(lacking))} too, or "{DEFAULT_UNITS}" for what is not named')
    return units


def _literal(value: str) -> str:
    if "${" in value:
        raise ValueError("must not hold a variable: it is compared before variables are replaced")
    return value


class Price(BaseModel):
    """``[ampd_ray.price]``: what calls cost by the provider's price list. It changes nothing but a plan's bill."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)

    units: Annotated[dict[Method, NotNegative], AfterValidator(_priced)]
    """Compute units of a call by its method; `default` stands for those that are not named."""
    per_million_units: NotNegative
    """The price of a million compute units."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3,5}$")] = "USD"
    """The currency of the price."""

    def units_of(self, method: str) -> float:
        """The compute units of one call."""
        return self.units.get(method, self.units.get(DEFAULT_UNITS, 0.0))

    def cost_of(self, units: float) -> float:
        """What so many compute units cost."""
        return units * self.per_million_units / 1e6


class Extras(BaseModel):
    """The table ``[ampd_ray]`` of a provider file, which Amp ignores."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)

    integrity: Literal["strict", "basic"] = "strict"
    """How much of an answer is held against the header: `basic` for chains that do not follow Ethereum's roots."""
    price: Price | None = None


class ProviderConfig(BaseModel):
    """One provider as its file describes it; ``${NAME}`` stands for a variable until :meth:`resolved`."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)

    name: str = Field(exclude=True)
    kind: Literal["evm-rpc"] = "evm-rpc"
    """What it speaks; there is no other kind."""
    network: Annotated[str, Field(min_length=1), AfterValidator(_literal)]
    """The network that it serves, as in the manifests. No variable."""
    url: SecretStr
    """`http://`, `https://`, `ws://`, `wss://` or `ipc:///path/to/socket`. A secret."""
    auth_token: SecretStr | None = None
    """Sent as `Authorization: Bearer`. A secret; write `${NAME}`."""
    auth_header: Annotated[str, Field(pattern=r"^[!#-'*+.^-z|~0-9A-Z${}-]+$")] | None = None
    """The header that carries the token, without `Bearer`, in place of `Authorization`."""
    rate_limit_per_minute: Annotated[int, Field(ge=1, lt=2**32)] | None = None
    """HTTP requests a minute, a batch being one, of all extractors of a Ray cluster together."""
    concurrent_request_limit: Annotated[int, Field(ge=0, lt=2**16), AfterValidator(lambda n: max(1, n))] = 1024
    """Most requests in flight, of all extractors of a Ray cluster together; one has 256 at most."""
    rpc_batch_size: Annotated[int, Field(ge=0)] = 0
    """Calls in one request; 0 and 1: no batches."""
    fetch_receipts_per_tx: bool = False
    """Ask for each transaction's receipt: for nodes without `eth_getBlockReceipts`."""
    timeout_secs: Annotated[int, Field(ge=1)] = 30
    """Of a whole request."""
    ampd_ray: Extras = Extras()

    @property
    def host(self) -> str:
        """Where it is, fit for logs: ``host:port``, or the file name of the node's socket."""
        try:
            parts = urlsplit(self.url.get_secret_value())
        except ValueError:
            return "(malformed address)"
        if parts.scheme == "ipc":
            return (parts.netloc + parts.path).rpartition("/")[2]
        return parts.netloc.rpartition("@")[2] or "(from the environment)"

    def __repr__(self) -> str:
        return f"ProviderConfig({self.name}: {self.kind}, {self.network}, {self.host})"

    __str__ = __repr__

    def keys(self) -> dict[str, Any]:
        """The file's content, secrets in clear: what is not the default."""
        kept = self.model_dump(exclude_defaults=True) | {"kind": self.kind}
        return {key: _plain(value) for key, value in kept.items()}

    def variables(self) -> list[str]:
        """The names of the variables in its values, each once."""
        text = json.dumps(self.keys())
        return list(dict.fromkeys(name for name, _ in _VARIABLE.findall(text)))

    def resolved(self, env: Mapping[str, str]) -> Self:
        """The same with every variable replaced. Raises ``ConfigError`` that names what is missing or wrong.

        Whether the address can be asked shows when an ``Endpoint`` is made of it.
        """
        try:
            keys = {key: _substituted(value, env) for key, value in self.keys().items()}
            return type(self)(name=self.name, **keys)
        except ValueError as error:
            raise ConfigError(f"provider {self.name}: {reason(error)}", provider=self.name) from None


def reason(error: Exception) -> str:
    """Why a provider's keys are refused, all problems in one line, without the values."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, one['loc']))}: "
        + one["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        for one in error.errors(include_url=False)
    )


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _substituted(value: Any, env: Mapping[str, str]) -> Any:
    """``value`` with ``${NAME}`` replaced in every text in it; ``ValueError`` for what cannot be."""
    if isinstance(value, dict):
        return {key: _substituted(inner, env) for key, inner in value.items()}
    return _VARIABLE.sub(lambda found: _variable(found, env), value) if isinstance(value, str) else value


def _variable(found: re.Match[str], env: Mapping[str, str]) -> str:
    name, closed = found.groups()
    if not closed or not name:
        raise ValueError("a variable is written ${NAME}; here its name or its closing brace is missing")
    if name not in env:
        raise ValueError(f"the environment variable {name} is not set")
    return env[name]
