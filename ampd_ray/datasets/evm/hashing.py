"""Ethereum's hashes: Keccak-256, RLP, the ordered trie root, the logs bloom.

Verification recomputes a block's hash and roots with these, and the devnet makes its blocks with the same. All
functions are pure and take raw bytes, never hex text. Sources: the yellow paper's appendices B (RLP),
C (hex-prefix encoding), D (Merkle-Patricia trie) and its section 4.3.1 (bloom).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import TypeAlias

from sha3 import keccak_256

RlpItem: TypeAlias = "bytes | int | Sequence[RlpItem]"
"""What RLP encodes: bytes, an unsigned integer (big-endian without leading zeros), or a list of items."""

_Entry: TypeAlias = tuple[bytes, bytes]  # (key as nibbles, one a byte; value)


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 of ``data`` (the original padding, not SHA3's)."""
    digest: bytes = keccak_256(data).digest()
    return digest


def rlp_encode(item: RlpItem) -> bytes:
    """Return the RLP encoding of ``item``. A negative integer raises ``OverflowError``.

    Written out, as everything here passes through it and the ``rlp`` package takes 2.5 times as long; the tests
    compare the two.
    """
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(len(item), 0x80) + item
    if isinstance(item, int):
        return rlp_encode(item.to_bytes((item.bit_length() + 7) // 8, "big"))
    payload = b"".join([rlp_encode(child) for child in item])
    return _prefix(len(payload), 0xC0) + payload


def _prefix(length: int, offset: int) -> bytes:
    """What stands before a payload: its length, or the length of its length, on top of the kind's ``offset``."""
    if length < 56:
        return bytes((offset + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((offset + 55 + len(size),)) + size


EMPTY_ROOT = keccak256(rlp_encode(b""))
"""Root of a trie without entries: a block without transactions, receipts or withdrawals."""

EMPTY_OMMERS = keccak256(rlp_encode([]))
"""``sha3Uncles`` of a block without uncles."""


def ordered_trie_root(values: Sequence[bytes]) -> bytes:
    """Return the root of the hexary Merkle-Patricia trie that maps RLP(i) to ``values[i]``.

    This is how a header commits to its transactions, receipts and withdrawals, each value in its consensus
    encoding. Values must not be empty.
    """
    if not values:
        return EMPTY_ROOT
    entries = sorted((_key(index), value) for index, value in enumerate(values))
    return keccak256(rlp_encode(_node(entries, 0)))


@cache
def _key(index: int) -> bytes:
    """The nibbles of RLP(``index``), one a byte."""
    encoded = rlp_encode(index)
    return bytes(nibble for byte in encoded for nibble in (byte >> 4, byte & 0x0F))


def _node(entries: Sequence[_Entry], depth: int) -> list[RlpItem]:
    """The node that holds ``entries`` (sorted, not empty), whose keys agree in their first ``depth`` nibbles."""
    first = entries[0][0]
    if len(entries) == 1:
        return [_hex_prefix(first[depth:], leaf=True), entries[0][1]]
    shared = _shared(first, entries[-1][0], depth)
    if shared > depth:
        return [_hex_prefix(first[depth:shared], leaf=False), _reference(_node(entries, shared))]
    return _branch(entries, depth)


def _branch(entries: Sequence[_Entry], depth: int) -> list[RlpItem]:
    """A branch by nibble ``depth``. No RLP(i) is a prefix of another, so its own value stays empty."""
    branch: list[RlpItem] = [b""] * 17
    start = 0
    while start < len(entries):
        nibble = entries[start][0][depth]
        end = start + 1
        while end < len(entries) and entries[end][0][depth] == nibble:
            end += 1
        branch[nibble] = _reference(_node(entries[start:end], depth + 1))
        start = end
    return branch


def _reference(node: list[RlpItem]) -> bytes | list[RlpItem]:
    """How a parent holds ``node``: the node itself where its encoding is shorter than a hash, else its hash."""
    encoded = rlp_encode(node)
    return node if len(encoded) < 32 else keccak256(encoded)


def _shared(first: bytes, last: bytes, depth: int) -> int:
    """Length of the prefix that the least and the greatest key share, hence all between them."""
    end = depth
    while end < min(len(first), len(last)) and first[end] == last[end]:
        end += 1
    return end


def _hex_prefix(nibbles: bytes, *, leaf: bool) -> bytes:
    """Pack nibbles into bytes, behind a flag that tells leaf from extension and odd from even."""
    odd = len(nibbles) % 2
    flag = 2 * leaf + odd
    padded = bytes([flag]) + nibbles if odd else bytes([flag, 0]) + nibbles
    return bytes(high << 4 | low for high, low in zip(padded[::2], padded[1::2], strict=True))


def bloom_of(entries: Iterable[bytes]) -> bytes:
    """Return the 256-byte bloom of ``entries``: the addresses (20 bytes) and topics (32 bytes) of some logs."""
    bits = 0
    for entry in entries:
        bits |= _bloom_bits(entry)
    return bits.to_bytes(256, "big")


@lru_cache(maxsize=1 << 16)  # addresses and event signatures repeat in almost every block
def _bloom_bits(entry: bytes) -> int:
    """Three bits of 2048, each from a byte pair of the entry's hash."""
    digest = keccak256(entry)
    bits = 0
    for pair in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[pair : pair + 2], "big") & 2047)
    return bits
