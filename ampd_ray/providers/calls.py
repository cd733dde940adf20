"""The calls that a source makes, each with what its result becomes (``spec/data.md`` 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ampd_ray.datasets.evm.rpc import BLOCK, HEAD, RpcBlock, quantity
from ampd_ray.providers.envelope import Call


@dataclass(frozen=True, slots=True)
class Head:
    """The block at a tag; hashes are 32 raw bytes, ``timestamp`` Unix seconds."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp: int


def block_call(number: int) -> Call[RpcBlock]:
    """The block with its full transactions."""
    return Call("eth_getBlockByNumber", [hex(number), True], _decode_block, number)


def head_call(tag: str) -> Call[Head]:
    """The header of the block that the provider serves under ``tag``."""
    return Call("eth_getBlockByNumber", [tag, False], _decode_head)


def _decode_block(raw: msgspec.Raw) -> RpcBlock:
    block = BLOCK.decode(raw)
    if block is None:
        raise ValueError("null")
    return block


def _decode_quantity(raw: msgspec.Raw) -> int:
    return quantity(msgspec.json.decode(raw, type=str | int))


def _decode_head(raw: msgspec.Raw) -> Head:
    header = HEAD.decode(raw)
    if header is None or header.hash is None or header.parent_hash is None:
        raise ValueError("a hash is missing")
    return Head(
        quantity(header.number), _bytes32(header.hash), _bytes32(header.parent_hash), quantity(header.timestamp)
    )


def _bytes32(text: str) -> bytes:
    value = bytes.fromhex(text.removeprefix("0x"))
    if len(value) != 32:
        raise ValueError("a hash has the wrong length")
    return value


CHAIN_ID: Call[int] = Call("eth_chainId", [], _decode_quantity)
