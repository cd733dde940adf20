"""Plain blocking HTTP to loopback, whatever proxy the environment names."""

import json
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

_opener = build_opener(ProxyHandler({}))


class RpcFailed(Exception):
    """The node answered with an error."""


def fetch(url: str, body: Any = None) -> Any:
    """The JSON that ``url`` answers to GET, or to POST of ``body`` as JSON."""
    data = None if body is None else json.dumps(body).encode()
    with _opener.open(Request(url, data, {"Content-Type": "application/json"}), timeout=30) as response:
        return json.load(response)


def rpc_call(url: str, method: str, *params: Any) -> Any:
    """The result of one JSON-RPC call; an error answer raises."""
    answer = fetch(url, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    if "error" in answer:
        raise RpcFailed(f"{method}: {answer['error']['message']}")
    return answer["result"]
