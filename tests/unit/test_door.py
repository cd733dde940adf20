"""Whom a Ray lets in, asked of a head that is none: a server of the one call."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from ampd_ray.actors import cluster, door
from ampd_ray.errors import InsecureRay, RayUnavailable
from tests.fakes.authority import Authority

OURS = {"authorization": "Bearer ours"}
EVERYWHERE, LOOPBACK = "0.0.0.0", "127.0.0.1"


class Head(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Lets in who says ``token``; None: everybody."""

    def __init__(self, token: str | None, trouble: grpc.StatusCode | None = None):
        self._token = token
        self._trouble = trouble

    def service(self, called: Any) -> Any:
        said = dict(called.invocation_metadata).get("authorization")
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self._answer(said, context))

    def _answer(self, said: str | None, context: Any) -> bytes:
        if self._trouble is not None:
            context.abort(self._trouble, "trouble")
        if self._token is not None and said != f"Bearer {self._token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return b"cluster"


@contextmanager
def head(
    token: str | None,
    listens_on: str = EVERYWHERE,
    trouble: grpc.StatusCode | None = None,
    tls: grpc.ServerCredentials | None = None,
) -> Iterator[str]:
    """Its address as one on this machine would say it."""
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads, handlers=[Head(token, trouble)])
        at = f"{listens_on}:0"
        port = server.add_insecure_port(at) if tls is None else server.add_secure_port(at, tls)
        server.start()
        yield f"{LOOPBACK}:{port}"
        server.stop(None).wait()


def test_a_head_that_asks_for_our_token_is_joined() -> None:
    with head("ours") as address:
        assert door.check(address, OURS, insecure=False)


def test_a_head_that_admits_everybody_is_not_however_good_our_token_is() -> None:
    with head(None) as address, pytest.raises(InsecureRay) as raised:
        door.check(address, OURS, insecure=False)
    for told in (address, "get-auth-token", "RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN", "insecure_ray = true"):
        assert told in raised.value.message


def test_unless_that_is_meant() -> None:
    with head(None) as address:
        assert not door.check(address, {}, insecure=True)


def test_or_only_this_machine_reaches_it() -> None:
    """The address that it is called by says nothing: Ray listens on all."""
    with head(None, LOOPBACK) as address:
        assert not door.check(address, {}, insecure=False)


def test_with_tls_a_head_is_asked_by_who_trusts_it_and_has_a_certificate(tmp_path: Path) -> None:
    """As Ray does with ``RAY_USE_TLS``: both sides show one."""
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    other.directory.mkdir()
    chain, key = (path.read_bytes() for path in authority.certify(LOOPBACK))
    trusted = authority.file.read_bytes()
    tls = grpc.ssl_server_credentials([(key, chain)], trusted, require_client_auth=True)
    with head("ours", LOOPBACK, tls=tls) as address:
        assert door.check(address, OURS, (chain, key, trusted), insecure=False)
        strange_chain, strange_key = (path.read_bytes() for path in other.certify(LOOPBACK))
        for certificates in (
            (chain, key, other.file.read_bytes()),  # who trusts another authority
            (strange_chain, strange_key, trusted),  # whom the head does not trust
            None,
        ):
            with pytest.raises(RayUnavailable, match="no Ray cluster answers"):
                door.check(address, OURS, certificates, insecure=False)


@pytest.mark.parametrize("address", ["192.0.2.7:6379", "[::1]:6379", "no.such.host.invalid:6379"])
def test_all_other_addresses_are_outside(address: str) -> None:
    assert door._reached_from_outside(address)


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize(
    ("token", "reason"), [({}, "there is none here"), ({"authorization": "Bearer x"}, "ours is another one")]
)
def test_who_has_no_token_or_another_one_is_told_so_at_once(token: dict[str, str], reason: str, insecure: bool) -> None:
    with head("ours") as address, pytest.raises(RayUnavailable, match=reason) as raised:
        door.check(address, token, insecure=insecure)
    assert "RAY_AUTH_TOKEN" in raised.value.message
    assert "Bearer" not in raised.value.message


def test_a_head_that_does_not_say_is_not_joined() -> None:
    with (
        head(None, trouble=grpc.StatusCode.UNAVAILABLE) as address,
        pytest.raises(RayUnavailable, match="no Ray cluster answers"),
    ):
        door.check(address, OURS, insecure=False)


def test_a_ray_that_does_not_come_up_in_time_is_no_bug_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**told: Any) -> None:
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 - as Ray does

    monkeypatch.setattr("ray.init", late)
    with (
        pytest.raises(RayUnavailable, match="Ray does not start: Exception: The current node timed out"),
        cluster.on_ray(None),
    ):
        pass
