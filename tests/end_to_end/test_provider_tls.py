"""A provider over TLS has to prove who it is before it is asked anything: a real server, and ways to doubt it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from yarl import URL

from tests.fakes.ampd import CANARY, clean_env
from tests.fakes.aside import aside
from tests.fakes.authority import Authority
from tests.fakes.devnet import Devnet
from tests.fakes.tcp_proxy import TcpProxy

ASK = """
import asyncio, sys
from ampd_ray.errors import ProviderError
from ampd_ray.providers.evm_rpc import EvmRpcSource
from tests.fakes.providers import provider

async def ask(url):
    source = EvmRpcSource(provider(url, auth_token=sys.argv[1]))
    try:
        return await source.chain_id()
    except ProviderError as error:
        return error.message
    finally:
        await source.close()

for url in sys.argv[2:]:
    print(asyncio.run(ask(url)))
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(devnet: Devnet, authority: Authority) -> Iterator[TcpProxy]:
    """A devnet behind TLS, with a certificate for ``localhost``."""
    node = URL(devnet.url)
    assert node.host is not None
    assert node.port is not None
    host, port, tls = node.host, node.port, authority.server_context("localhost")
    with aside(lambda: TcpProxy(host, port, tls)) as running:
        yield running


def answers(trusted: Path, *urls: str) -> list[str]:
    """What a process that trusts ``trusted`` alone is answered at these addresses."""
    env = clean_env({"SSL_CERT_FILE": str(trusted)})
    command = [sys.executable, "-c", ASK, CANARY, *urls]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_a_provider_of_an_authority_that_is_trusted_is_asked(server: TcpProxy, authority: Authority) -> None:
    urls = [f"{scheme}://localhost:{server.port}" for scheme in ("https", "wss")]
    assert answers(authority.file, *urls) == ["1337", "1337"]


def test_one_that_is_not_proved_is_asked_nothing_and_told_no_token(
    server: TcpProxy, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").file
    for trusted, host in ((other, "localhost"), (authority.file, "127.0.0.1")):
        said = answers(trusted, *(f"{scheme}://{host}:{server.port}" for scheme in ("https", "wss")))
        assert all("is not trusted: the TLS handshake failed" in line and CANARY not in line for line in said)
        assert len(said) == 2
    assert (server.connections, server.passed) == (0, 0)
