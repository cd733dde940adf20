"""An object store over TLS has to prove its name, to the client of small files and to that of large ones alike."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from yarl import URL

from ampd_ray.errors import StoreUnavailable
from ampd_ray.store import buckets, objects, s3
from ampd_ray.store.files import Store, open_store
from tests.fakes.aside import aside
from tests.fakes.authority import Authority
from tests.fakes.object_stores import S3Server, environment
from tests.fakes.tcp_proxy import TcpProxy

TARGET = "_/eth/blocks/0190/000000000-00.parquet"
PART_BYTES = 1 << 16


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What fails is not tried for long, and a large file is a small one."""
    monkeypatch.setattr(objects, "LARGE_BYTES", PART_BYTES)
    monkeypatch.setattr(objects, "AGAIN_AFTER_SECS", ())
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    monkeypatch.setitem(buckets.RETRY, "max_retries", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "authority").mkdir()
    return Authority(tmp_path / "authority")


@pytest.fixture
def server(moto: S3Server, authority: Authority) -> Iterator[TcpProxy]:
    """A store with a certificate for ``localhost``."""
    at, tls = URL(moto.endpoint), authority.server_context("localhost")
    with aside(lambda: TcpProxy(str(at.host), at.port or 80, tls)) as running:
        yield running


def opened(moto: S3Server, endpoint: str, trusted: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in {**environment(endpoint), "SSL_CERT_FILE": str(trusted)}.items():
        monkeypatch.setenv(name, value)
    return open_store(moto.url(uuid.uuid4().hex))


def publish(store: Store, size: int) -> None:
    path = store.stage(7, 1, uuid.uuid4().hex)
    path.write_bytes(os.urandom(size))
    store.publish(path, TARGET)


@pytest.mark.parametrize("size", [1000, PART_BYTES + 1000])
def test_a_store_of_an_authority_that_is_trusted_is_written_to(
    moto: S3Server, server: TcpProxy, authority: Authority, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    store = opened(moto, f"https://localhost:{server.port}", authority.file, monkeypatch)
    publish(store, size)
    assert store.head(TARGET).size == size
    assert server.passed > size


@pytest.mark.parametrize("size", [1000, PART_BYTES + 1000])
def test_the_variable_of_awss_own_tools_is_as_good(
    moto: S3Server, server: TcpProxy, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
    store = opened(moto, f"https://localhost:{server.port}", Authority(tmp_path).file, monkeypatch)
    publish(store, size)
    assert store.head(TARGET).size == size


@pytest.mark.parametrize("size", [1000, PART_BYTES + 1000])
def test_one_that_is_not_proved_is_told_nothing(
    moto: S3Server, server: TcpProxy, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    other = Authority(tmp_path)
    for host, trusted in (("localhost", other.file), ("127.0.0.1", authority.file)):
        store = opened(moto, f"https://{host}:{server.port}", trusted, monkeypatch)
        with pytest.raises(StoreUnavailable):
            publish(store, size)
    assert server.passed == 0
