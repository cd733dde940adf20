"""The calls that a source makes, each with what its result becomes (``spec/data.md`` 2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from ampd_ray.datasets.evm.rpc import BLOCK, GLANCE, HEAD, Quantity, RpcBlock, RpcGlance, quantity
from ampd_ray.providers.envelope import Call

_HASH = re.compile(r"0[xX][0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Head:
    """The block at a tag; hashes are 32 raw bytes, ``timestamp`` Unix seconds; both numbers fit in 63 bits."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp: int


def block_call(number: int) -> Call[RpcBlock]:
    """The block with its full transactions."""
    return Call("eth_getBlockByNumber", [hex(number), True], _decode_block, number)


@dataclass(frozen=True, slots=True)
class Glanced:
    """A block as text, and what had to be known of it."""

    text: msgspec.Raw
    glance: RpcGlance


def text_call(number: int) -> Call[Glanced]:
    """The same block as text."""
    return Call("eth_getBlockByNumber", [hex(number), True], _decode_glance, number)


def head_call(tag: str) -> Call[Head]:
    """The header of the block that the provider serves under ``tag``."""
    return Call("eth_getBlockByNumber", [tag, False], _decode_head)


def _decode_glance(raw: msgspec.Raw) -> Glanced:
    glance = GLANCE.decode(raw)
    if glance is None:
        raise ValueError("null")
    return Glanced(raw, glance)


def _decode_block(raw: msgspec.Raw) -> RpcBlock:
    block = BLOCK.decode(raw)
    if block is None:
        raise ValueError("null")
    return block


def is_hash(text: str | None) -> bool:
    """True for the hex spelling of 32 bytes."""
    return text is not None and _HASH.fullmatch(text) is not None


def _decode_quantity(raw: msgspec.Raw) -> int:
    return _bounded(msgspec.json.decode(raw, type=Quantity))


def _decode_head(raw: msgspec.Raw) -> Head:
    header = HEAD.decode(raw)
    if header is None or header.hash is None or header.parent_hash is None:
        raise ValueError("a hash is missing")
    return Head(
        _bounded(header.number), _bytes32(header.hash), _bytes32(header.parent_hash), _bounded(header.timestamp)
    )


def _bytes32(text: str) -> bytes:
    if not is_hash(text):
        raise ValueError("a hash is not 32 bytes of hex data")
    return bytes.fromhex(text[2:])


def _bounded(value: Quantity) -> int:
    """A number that fits wherever it is put, signed columns of the database among them."""
    number = quantity(value)
    if number >= 1 << 63:
        raise ValueError("a number has more than 63 bits")
    return number


CHAIN_ID: Call[int] = Call("eth_chainId", [], _decode_quantity)
