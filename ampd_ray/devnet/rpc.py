"""JSON-RPC answers about a :class:`DevChain`, as a node gives them: bytes in, bytes out, no I/O.

Spelling and error codes follow the execution-apis specification and JSON-RPC 2.0; ``null`` stands for a block or
transaction that is not there. ``devnet_mine [count]``, ``devnet_reorg [depth]`` and ``devnet_switch [hash]``, back to
the branch of an orphaned block, steer the chain. ``devnet_spoil [number, ...]`` says of which blocks the last receipt
is kept back, as nodes in trouble do; without numbers of none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ampd_ray.devnet.blocks import DevBlock, encode_json
from ampd_ray.devnet.chain import DevChain

FINALITY = 64  # blocks between the head and the finalized block; half of it to the safe one
MAX_BATCH = 1_000  # calls
MAX_MINED = 10_000  # blocks a call

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602

_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]{0,15})")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")


class RpcError(Exception):
    """A call that gets an error answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class DevRpc:
    """The methods of one node. ``calls`` counts them by name."""

    def __init__(self, chain: DevChain, *, finality: int = FINALITY) -> None:
        self.chain = chain
        self.finality = finality
        self.calls: Counter[str] = Counter()
        self._spoiled: frozenset[int] = frozenset()
        self._methods: dict[str, Callable[[list[Any]], bytes]] = {
            "eth_chainId": lambda _: encode_json(hex(chain.chain_id)),
            "net_version": lambda _: encode_json(str(chain.chain_id)),
            "web3_clientVersion": lambda _: encode_json("ampd-devnet"),
            "eth_syncing": lambda _: b"false",
            "eth_blockNumber": lambda _: encode_json(hex(chain.head.number)),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
            "devnet_mine": self._mine,
            "devnet_reorg": self._reorg,
            "devnet_switch": self._switch,
            "devnet_spoil": self._spoil,
        }

    def answer(self, request: bytes | str) -> bytes:
        """The response to one request or batch."""
        try:
            call = msgspec.json.decode(request)
        except msgspec.DecodeError:
            return _error(None, RpcError(PARSE_ERROR, "parse error"))
        if not isinstance(call, list):
            return self._answer_one(call)
        if not 1 <= len(call) <= MAX_BATCH:
            return _error(None, RpcError(INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} calls"))
        return b"[" + b",".join([self._answer_one(item) for item in call]) + b"]"

    def _answer_one(self, call: Any) -> bytes:
        if not isinstance(call, dict) or not isinstance(call.get("method"), str):
            return _error(None, RpcError(INVALID_REQUEST, "invalid request"))
        identity, name, params = call.get("id"), call["method"], call.get("params") or []
        try:
            return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (encode_json(identity), self._call(name, params))
        except RpcError as error:
            return _error(identity, error)

    def _call(self, name: str, params: Any) -> bytes:
        method = self._methods.get(name)
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, f"the method {name[:64]} does not exist/is not available")
        self.calls[name] += 1
        if not isinstance(params, list):
            raise RpcError(INVALID_PARAMS, "params must be a list")
        return method(params)

    # -- blocks ---------------------------------------------------------------------------------------------------

    def _block_by_number(self, params: list[Any]) -> bytes:
        block = self.chain.block(self._number(_param(params, 0)))
        return b"null" if block is None else block.json(full=_param(params, 1, False) is True)

    def _block_by_hash(self, params: list[Any]) -> bytes:
        block = self.chain.by_hash(_hash(_param(params, 0)))
        return b"null" if block is None else block.json(full=_param(params, 1, False) is True)

    def _block_receipts(self, params: list[Any]) -> bytes:
        block = self._block(_param(params, 0))
        if block is None:
            return b"null"
        return b"[%b]" % b",".join(block.receipts[:-1]) if block.number in self._spoiled else block.receipts_json()

    def _block(self, key: Any) -> DevBlock | None:
        """The block of a hash, a number, a tag, or an EIP-1898 object."""
        if isinstance(key, dict):
            key = key.get("blockHash") or key.get("blockNumber")
        if isinstance(key, str) and _HASH.fullmatch(key):
            return self.chain.by_hash(_hash(key))
        return self.chain.block(self._number(key))

    def _number(self, key: Any) -> int:
        head = self.chain.head.number
        tags = {
            "latest": head,
            "pending": head,
            "safe": max(0, head - self.finality // 2),
            "finalized": max(0, head - self.finality),
            "earliest": 0,
        }
        if isinstance(key, str) and key in tags:
            return tags[key]
        if isinstance(key, str) and _QUANTITY.fullmatch(key):
            return int(key, 16)
        raise RpcError(INVALID_PARAMS, "invalid block: give a hex quantity without leading zeros, or a tag")

    # -- transactions and logs --------------------------------------------------------------------------------------

    def _transaction(self, params: list[Any]) -> bytes:
        place = self.chain.place(_hash(_param(params, 0)))
        return b"null" if place is None else place[0].transactions[place[1]]

    def _receipt(self, params: list[Any]) -> bytes:
        place = self.chain.place(_hash(_param(params, 0)))
        if place is None or (place[0].number in self._spoiled and place[1] == len(place[0].receipts) - 1):
            return b"null"
        return place[0].receipts[place[1]]

    def _logs(self, params: list[Any]) -> bytes:
        query = _param(params, 0)
        if not isinstance(query, dict):
            raise RpcError(INVALID_PARAMS, "the filter must be an object")
        logs = (
            log
            for block in self._queried(query)
            for receipt in msgspec.json.decode(block.receipts_json())
            for log in receipt["logs"]
        )
        return encode_json([log for log in logs if _matches(log, query)])

    def _queried(self, query: dict[str, Any]) -> Iterable[DevBlock]:
        if "blockHash" in query:
            block = self.chain.by_hash(_hash(query["blockHash"]))
            if block is None:
                raise RpcError(-32000, "unknown block")
            return [block]
        first, last = (self._number(query.get(key, "latest")) for key in ("fromBlock", "toBlock"))
        if first > last:
            raise RpcError(INVALID_PARAMS, "invalid block range")
        numbers = range(first, min(last, self.chain.head.number) + 1)
        return [block for block in map(self.chain.block, numbers) if block is not None]

    # -- control ----------------------------------------------------------------------------------------------------

    def _mine(self, params: list[Any]) -> bytes:
        count = _param(params, 0, 1)
        if not isinstance(count, int) or not 1 <= count <= MAX_MINED:
            raise RpcError(INVALID_PARAMS, f"give 1 to {MAX_MINED} blocks")
        return encode_json(hex(self.chain.mine(count).number))

    def _reorg(self, params: list[Any]) -> bytes:
        depth = _param(params, 0, 1)
        try:
            return encode_json(hex(self.chain.reorg(int(depth)).number))
        except (TypeError, ValueError) as error:
            raise RpcError(INVALID_PARAMS, str(error)) from error

    def _switch(self, params: list[Any]) -> bytes:
        try:
            return encode_json(hex(self.chain.switch(_hash(_param(params, 0))).number))
        except ValueError as error:
            raise RpcError(INVALID_PARAMS, str(error)) from error

    def _spoil(self, params: list[Any]) -> bytes:
        for number in params:
            block = self.chain.block(number) if isinstance(number, int) else None
            if block is None or not block.transactions:
                raise RpcError(INVALID_PARAMS, f"block {number} is not there, or has no transaction to spoil")
        self._spoiled = frozenset(params)
        return encode_json(len(self._spoiled))


def _param(params: list[Any], index: int, *default: Any) -> Any:
    """Parameter ``index``, or the default where there is one and the call leaves the parameter out."""
    if index < len(params):
        return params[index]
    if not default:
        raise RpcError(INVALID_PARAMS, f"missing value for required argument {index}")
    return default[0]


def _hash(value: Any) -> bytes:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise RpcError(INVALID_PARAMS, "invalid hash: give 0x and 64 hex digits")
    return bytes.fromhex(value[2:])


def _matches(log: dict[str, Any], query: dict[str, Any]) -> bool:
    """Whether ``log`` passes the filter's addresses and topics (``null`` is any topic, a list any of its own)."""
    wanted = query.get("topics") or []
    if query.get("address") and log["address"] not in _choices(query["address"]):
        return False
    if len(wanted) > len(log["topics"]):
        return False
    return all(topic is None or seen in _choices(topic) for topic, seen in zip(wanted, log["topics"], strict=False))


def _choices(value: Any) -> set[str]:
    return {value.lower()} if isinstance(value, str) else {item.lower() for item in value}


def _error(identity: Any, error: RpcError) -> bytes:
    return encode_json({"jsonrpc": "2.0", "id": identity, "error": {"code": error.code, "message": error.message}})
