"""Where a provider is: its address with credentials for the transport, its host for people."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ampd_ray.config import is_loopback
from ampd_ray.errors import ConfigError
from ampd_ray.log import redact
from ampd_ray.providers.provider import ProviderConfig

SCHEMES = ("http", "https", "ws", "wss", "ipc")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``host`` is fit for logs (``host:port``, or the socket's file name); url and headers are secret."""

    provider: str
    scheme: str
    host: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    path: str = field(repr=False, default="")  # of the socket, with ipc
    secrets: tuple[str, ...] = field(repr=False, default=())
    is_loopback: bool = False

    @classmethod
    def of(cls, config: ProviderConfig) -> Endpoint:
        """Parse the provider's url. Raises ConfigError."""
        url, name = config.url.get_secret_value(), f"provider {config.name}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigError(f"{name}: url has a malformed host or port") from None
        if parts.scheme not in SCHEMES:
            raise ConfigError(f"{name}: url must begin with one of {', '.join(s + '://' for s in SCHEMES)}")
        if parts.scheme == "ipc":
            path = unquote(parts.netloc + parts.path)
            if not path.strip("/"):
                raise ConfigError(f"{name}: url must name the node's socket, as in ipc:///var/lib/geth/geth.ipc")
            return cls(config.name, "ipc", path.rpartition("/")[2], url, {}, path, is_loopback=True)
        if not parts.hostname or port == 0:
            raise ConfigError(f"{name}: url has no host")
        token = config.auth_token.get_secret_value() if config.auth_token else None
        if token and parts.username:
            raise ConfigError(f"{name}: both auth_token and a user in the url; keep one of them")
        headers, secrets = _headers(token, config.auth_header), _secrets(url, token)
        return cls(config.name, parts.scheme, config.host, url, headers, "", secrets, is_loopback(parts.hostname))

    @property
    def tells_secrets(self) -> bool:
        """True if whoever listens on the way learns a token or a password."""
        plain = self.scheme in ("http", "ws") and not self.is_loopback
        return plain and (bool(self.headers) or "@" in urlsplit(self.url).netloc)

    def scrub(self, text: str) -> str:
        """``text``, which may quote the provider, without this provider's secrets and without any URL's path."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return redact(text)


def _headers(token: str | None, name: str | None) -> dict[str, str]:
    if not token:
        return {}
    return {name: token} if name else {"Authorization": f"Bearer {token}"}


def _secrets(url: str, token: str | None) -> tuple[str, ...]:
    """The token, user and password, and what of path and query is long enough to be a key."""
    parts = urlsplit(url)
    words = [*re.split(r"[/;]", parts.path), *re.split(r"[&=;]", parts.query)]
    found = {word for word in words if len(word) >= 8}
    found |= {word for word in (token, parts.username, parts.password) if word and len(word) >= 4}
    return tuple(sorted(found | {unquote(word) for word in found}, key=len, reverse=True))
