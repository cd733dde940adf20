"""Ethereum's hashes: Keccak-256, RLP, the ordered trie root, the logs bloom.

Verification recomputes a block's hash and roots with these, and the devnet makes its blocks with the same. All
functions are pure and take raw bytes, never hex text. Sources: the yellow paper's appendices B (RLP),
C (hex-prefix encoding), D (Merkle-Patricia trie) and its section 4.3.1 (bloom).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from itertools import groupby
from struct import Struct
from typing import TypeAlias

from sha3 import keccak_256

RlpItem: TypeAlias = "bytes | int | Sequence[RlpItem]"
"""What RLP encodes: bytes, an unsigned integer (big-endian without leading zeros), or a list of items."""

_Tree: TypeAlias = "tuple[bytes, list[int | _Tree | None]]"
"""A branch: the encoded path of the extension above it, if any; its children: branches, leaves by index, nothing."""

_NOTHING = b"\x80"  # the encoding of the empty string


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
        return rlp_bytes(item)
    if isinstance(item, int):
        return rlp_bytes(item.to_bytes((item.bit_length() + 7) // 8, "big"))
    return rlp_list(b"".join([rlp_encode(child) for child in item]))


def rlp_bytes(value: bytes) -> bytes:
    """Return the RLP encoding of one byte string."""
    length = len(value)
    if length > 55:
        return _long(length, 0xB7) + value
    if length == 1 and value[0] < 0x80:
        return value
    return _BYTES[length] + value


def rlp_list(payload: bytes) -> bytes:
    """Return the RLP encoding of a list whose items, each encoded, stand one after another in ``payload``."""
    length = len(payload)
    return (_LISTS[length] if length <= 55 else _long(length, 0xF7)) + payload


_BYTES = [bytes([0x80 + length]) for length in range(56)]
_LISTS = [bytes([0xC0 + length]) for length in range(56)]


@lru_cache(maxsize=1 << 14)
def _long(length: int, offset: int) -> bytes:
    """What stands before a payload of more than 55 bytes: the length of its length upon ``offset``, its length."""
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([offset + len(size)]) + size


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
    paths, tree = _shape(len(values))
    nodes = [rlp_list(path + rlp_bytes(value)) for path, value in zip(paths, values, strict=True)]
    if len(nodes) == 1:
        return keccak256(nodes[0])
    references = [node if len(node) < 32 else b"\xa0" + keccak_256(node).digest() for node in nodes]
    return keccak256(_encoded(tree, references))


def _encoded(tree: _Tree, leaves: Sequence[bytes]) -> bytes:
    """The encoded node at the top of ``tree``, whose leaves are as their parents hold them."""
    path, children = tree
    parts = []
    for child in children:
        if child is None:
            parts.append(_NOTHING)
        elif isinstance(child, int):
            parts.append(leaves[child])
        else:
            node = _encoded(child, leaves)
            parts.append(node if len(node) < 32 else b"\xa0" + keccak_256(node).digest())
    parts.append(_NOTHING)  # no RLP(i) is a prefix of another, so no branch has a value of its own
    branch = rlp_list(b"".join(parts))
    if not path:
        return branch
    return rlp_list(path + (branch if len(branch) < 32 else b"\xa0" + keccak_256(branch).digest()))


@lru_cache(maxsize=512)
def _shape(count: int) -> tuple[list[bytes], _Tree]:
    """The trie of so many values: the encoded path that each leaf ends with, and the branches above them."""
    paths = [b""] * count
    keys = sorted((_key(index), index) for index in range(count))

    def node(keys: list[tuple[bytes, int]], depth: int) -> int | _Tree:
        first, index = keys[0]
        if len(keys) == 1:
            paths[index] = _path(first[depth:], leaf=True)
            return index
        shared = _shared(first, keys[-1][0], depth)
        above = _path(first[depth:shared], leaf=False) if shared > depth else b""
        children: list[int | _Tree | None] = [None] * 16
        for nibble, below in groupby(keys, lambda entry: entry[0][shared]):
            children[nibble] = node(list(below), shared + 1)
        return above, children

    top = node(keys, 0)
    return paths, (b"", [top]) if isinstance(top, int) else top


@cache
def _key(index: int) -> bytes:
    """The nibbles of RLP(``index``), one a byte."""
    encoded = rlp_encode(index)
    return bytes(nibble for byte in encoded for nibble in (byte >> 4, byte & 0x0F))


def _shared(first: bytes, last: bytes, depth: int) -> int:
    """Length of the prefix that the least and the greatest key share, hence all between them."""
    end = depth
    while end < min(len(first), len(last)) and first[end] == last[end]:
        end += 1
    return end


def _path(nibbles: bytes, *, leaf: bool) -> bytes:
    """Encoded nibbles, packed into bytes behind a flag that tells leaf from extension and odd from even."""
    odd = len(nibbles) % 2
    flag = 2 * leaf + odd
    padded = bytes([flag]) + nibbles if odd else bytes([flag, 0]) + nibbles
    return rlp_bytes(bytes(high << 4 | low for high, low in zip(padded[::2], padded[1::2], strict=True)))


def bloom_of(entries: Iterable[bytes]) -> bytes:
    """Return the 256-byte bloom of ``entries``: the addresses (20 bytes) and topics (32 bytes) of some logs."""
    bits = 0
    for entry in entries:
        bits |= _bloom_bits(entry)
    return bits.to_bytes(256, "big")


@lru_cache(maxsize=1 << 16)  # addresses and event signatures repeat in almost every block
def _bloom_bits(entry: bytes) -> int:
    first, second, third = bloom_places(entry)
    return 1 << first | 1 << second | 1 << third


@lru_cache(maxsize=1 << 16)
def bloom_places(entry: bytes) -> tuple[int, int, int]:
    """Three of a bloom's 2048 bits, 0 being the lowest bit of its last byte: each from a byte pair of a hash."""
    first, second, third = _PAIRS.unpack_from(keccak256(entry))
    return first & 2047, second & 2047, third & 2047


_PAIRS = Struct(">HHH")
