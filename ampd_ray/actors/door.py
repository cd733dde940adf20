"""Who may come into a Ray: where it asks for no token, everybody who reaches it runs what they like on its machines.

What counts is what the cluster does: it lets a driver in that has a token, also if it asks for none.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from contextlib import suppress

import grpc

from ampd_ray.errors import InsecureRay, RayUnavailable

Certificates = tuple[bytes, bytes, bytes]  # ours, its key, and that of the authority

_FIRST_CALL = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # every driver's, and it takes no arguments
_ANSWERS_WITHIN_SECS = 10.0
# Who listens on all addresses of a machine listens on the whole of its loopback network too.
_ALSO_LOOPBACK = "127.83.41.6"
_CONNECTS_WITHIN_SECS = 1.0
_TOKENS = (
    "Each node of the cluster, and the worker, needs RAY_AUTH_MODE=token and the cluster's token as RAY_AUTH_TOKEN, or "
    "its file as RAY_AUTH_TOKEN_PATH; for a cluster that has none `ray get-auth-token --generate` makes it"
)


def check(address: str, token: Mapping[str, str], certificates: Certificates | None = None, *, insecure: bool) -> bool:
    """True if the Ray at ``address``, host:port of its head, asks for a token, and takes ours; false if for none.

    ``token`` is the header that says ours, ``certificates`` are those of TLS. Raises ``RayUnavailable`` if it takes
    another one, and ``InsecureRay`` if it asks for none off loopback, unless ``insecure`` is meant.
    """
    with _channel(address, certificates) as channel:
        call = channel.unary_unary(_FIRST_CALL)
        if _admitted(call, address, {}):
            if not insecure and _reached_from_outside(address):
                raise InsecureRay(
                    f"the Ray at {address} asks nobody for a token: whoever reaches it runs what they like on its "
                    f"machines. {_TOKENS}. Where nobody else reaches it, insist with [ampd_ray] insecure_ray = true"
                )
            return False
        if not token or not _admitted(call, address, token):
            ours = "ours is another one" if token else "there is none here"
            raise RayUnavailable(f"the Ray at {address} asks for its token, and {ours}. {_TOKENS}")
        return True


def _channel(address: str, certificates: Certificates | None) -> grpc.Channel:
    if certificates is None:
        return grpc.insecure_channel(address)
    chain, key, authority = certificates
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, chain))


def _admitted(call: grpc.UnaryUnaryMultiCallable, address: str, token: Mapping[str, str]) -> bool:
    try:
        call(b"", timeout=_ANSWERS_WITHIN_SECS, metadata=list(token.items()))
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return False
        raise RayUnavailable(f"no Ray cluster answers at {address} ({error.code().name})") from None
    return True


def _reached_from_outside(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        if not ipaddress.IPv4Address(socket.gethostbyname(host)).is_loopback:
            return True
    except OSError:  # IPv6
        return True
    with suppress(OSError), socket.create_connection((_ALSO_LOOPBACK, int(port)), _CONNECTS_WITHIN_SECS):
        return True
    return False
