"""Where an object store's URL leads: a client for S3, GCS or Azure, made from the usual variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from ampd_ray.store.refusals import AZURE, GCS, S3, Kind, unusable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3CredentialProvider

# 503 SlowDown and its like are tried again by the client, for about a quarter of a minute.
RETRY: Final[RetryConfig] = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
REQUEST_WITHIN: Final = timedelta(minutes=2)
CONNECT_WITHIN: Final = timedelta(seconds=5)
CHUNK_BYTES: Final = 16 << 20  # of a large object, at a time

Client = S3Store | GCSStore | AzureStore


class Large(Protocol):
    """How objects that are too large for one request get to a store."""

    def put(self, path: str, file: Path, size: int) -> str | None:
        """Upload a new object: its tag, or None if something is there."""

    def abort(self, path: str) -> None:
        """Give up whatever unfinished uploads of an object are left."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in an object store; all paths are relative to it."""

    kind: Kind
    client: Client
    large: Large


class InChunks:
    """GCS and Azure: the common client sends chunks.

    It cannot ask for a *new* object then, so that is looked at first: names are unique to an epoch, and an epoch has
    one writer. What it leaves behind when it dies nobody can list; Azure forgets it, for GCS there is a rule to set.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, path: str, file: Path, size: int) -> str | None:
        """See :class:`Large`."""
        try:
            self._client.head(path)
        except FileNotFoundError:
            sent = self._client.put(path, file, use_multipart=True, chunk_size=CHUNK_BYTES, max_concurrency=4)
            return sent["e_tag"]
        return None

    def abort(self, path: str) -> None:
        """Nothing that could be found."""


def open_bucket(url: str) -> Bucket:
    """The place that ``url`` names. Raises ``ConfigError`` if the variables do not suffice for a client."""
    kind, connect = _CONNECT[urlsplit(url).scheme]
    endpoint = next(filter(None, map(os.environ.get, kind.endpoints)), None)
    client: ClientConfig = {
        "allow_http": (endpoint or "").startswith("http://"),
        "timeout": REQUEST_WITHIN,
        "connect_timeout": CONNECT_WITHIN,
    }
    try:
        return connect(url, endpoint, {"client_options": client, "retry_config": RETRY})
    except (BaseError, ValueError, OSError) as error:
        raise unusable(url, kind, error) from None


Options = dict[str, Any]


def _s3(url: str, endpoint: str | None, options: Options) -> Bucket:
    from ampd_ray.store.s3 import Account, Uploads  # noqa: PLC0415 - it takes long to import

    account = Account()
    credentials = cast("S3CredentialProvider", account)
    named = options | _given("endpoint", endpoint) | {"region": account.region}
    if account.authorities:
        named["client_options"] = named["client_options"] | {"root_certificate": Path(account.authorities).read_bytes()}
    client = S3Store.from_url(url, credential_provider=credentials, **named)
    return Bucket(S3, client, Uploads(account, urlsplit(url).netloc, client.prefix or "", endpoint))


def _gcs(url: str, endpoint: str | None, options: Options) -> Bucket:
    client = GCSStore.from_url(url, **(options | _given("base_url", endpoint)))
    return Bucket(GCS, client, InChunks(client))


def _azure(url: str, endpoint: str | None, options: Options) -> Bucket:
    client = AzureStore.from_url(url, **(options | _given("endpoint", endpoint)))
    return Bucket(AZURE, client, InChunks(client))


def _given(option: str, value: str | None) -> Options:
    return {option: value} if value else {}


_CONNECT: Final[Mapping[str, tuple[Kind, Callable[[str, str | None, Options], Bucket]]]] = {
    **dict.fromkeys(("s3", "s3a"), (S3, _s3)),
    "gs": (GCS, _gcs),
    **dict.fromkeys(("az", "adl", "azure", "abfs", "abfss"), (AZURE, _azure)),
}
