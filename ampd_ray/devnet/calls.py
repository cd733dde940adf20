"""What happens on the devnet: a few accounts send tokens, ether, NFTs and contracts to each other.

Balances are not kept: every block is valid in form, its story is invented. A :class:`Call` says what a transaction
asks for and how it ends; ``transactions`` signs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from coincurve import PrivateKey

from ampd_ray.datasets.evm.hashing import keccak256


class Account(NamedTuple):
    """A sender: its key and its address (20 bytes)."""

    key: PrivateKey
    address: bytes


class Log(NamedTuple):
    """One event: address (20 bytes), up to four topics (32 bytes each), data."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """What a transaction asks for, and how it ends."""

    to: bytes | None  # None creates a contract
    value: int  # wei
    data: bytes
    logs: tuple[Log, ...]
    gas_used: int
    succeeds: bool = True


def _account(label: str) -> Account:
    key = PrivateKey(keccak256(f"ampd devnet account {label}".encode()))
    return Account(key, keccak256(key.public_key.format(compressed=False)[1:])[12:])


def _address(label: str) -> bytes:
    return keccak256(f"ampd devnet {label}".encode())[12:]


def _event(signature: str) -> bytes:
    return keccak256(signature.encode())


ACCOUNTS = tuple(_account(str(index)) for index in range(8))
TOKENS = tuple(_address(f"token {index}") for index in range(4))
NFT = _address("nft")
POOL = _address("pool")
HOLDERS = tuple(_address(f"holder {index}") for index in range(56)) + tuple(a.address for a in ACCOUNTS)

TRANSFER = _event("Transfer(address,address,uint256)")
SWAP = _event("Swap(address,uint256,uint256,uint256,uint256,address)")
TRANSFER_SELECTOR = _event("transfer(address,uint256)")[:4]
SAFE_TRANSFER_SELECTOR = _event("safeTransferFrom(address,address,uint256)")[:4]
SWAP_SELECTOR = _event("swap(uint256,uint256,address,bytes)")[:4]

BASE_GAS = 21_000
GAS_PER_DATA_BYTE = 16
GAS_PER_LOG = 1_500
CREATION_GAS = 53_000


def _word(value: int | bytes) -> bytes:
    """One 32-byte ABI word."""
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def draw_call(rng: Random, sender: bytes) -> Call:
    """Draw what ``sender`` does next: mostly token transfers, now and then each of the rarer things."""
    dice = rng.random()
    if dice < 0.55:
        return _token_transfer(rng, sender)
    if dice < 0.75:
        return _call(rng.choice(HOLDERS), b"", value=rng.randrange(10**20))
    if dice < 0.85:
        return _swap(rng, sender)
    if dice < 0.92:
        return _nft_transfer(rng, sender)
    if dice < 0.97:
        return _call(rng.choice(TOKENS), TRANSFER_SELECTOR + rng.randbytes(64), succeeds=False)
    return _call(None, b"\x60\x80\x60\x40" + rng.randbytes(rng.randint(40, 400)))


def _call(to: bytes | None, data: bytes, *logs: Log, value: int = 0, succeeds: bool = True) -> Call:
    base = BASE_GAS if to else CREATION_GAS
    return Call(to, value, data, logs, base + GAS_PER_DATA_BYTE * len(data) + GAS_PER_LOG * len(logs), succeeds)


def _token_transfer(rng: Random, sender: bytes) -> Call:
    token, receiver, amount = rng.choice(TOKENS), rng.choice(HOLDERS), rng.getrandbits(rng.choice((60, 90, 256)))
    log = Log(token, (TRANSFER, _word(sender), _word(receiver)), _word(amount))
    return _call(token, TRANSFER_SELECTOR + _word(receiver) + _word(amount), log)


def _nft_transfer(rng: Random, sender: bytes) -> Call:
    """ERC-721: four topics and no data."""
    receiver, token_id = rng.choice(HOLDERS), rng.randrange(10_000)
    log = Log(NFT, (TRANSFER, _word(sender), _word(receiver), _word(token_id)), b"")
    return _call(NFT, SAFE_TRANSFER_SELECTOR + _word(sender) + _word(receiver) + _word(token_id), log)


def _swap(rng: Random, sender: bytes) -> Call:
    """A pool's swap: two transfers, the swap, and an anonymous log without topics."""
    paid, got = rng.randrange(10**24), rng.randrange(10**24)
    logs = (
        Log(TOKENS[0], (TRANSFER, _word(sender), _word(POOL)), _word(paid)),
        Log(TOKENS[1], (TRANSFER, _word(POOL), _word(sender)), _word(got)),
        Log(POOL, (SWAP, _word(sender), _word(sender)), _word(paid) + _word(0) + _word(0) + _word(got)),
        Log(POOL, (), _word(paid)),
    )
    return _call(POOL, SWAP_SELECTOR + _word(0) + _word(got) + _word(sender) + _word(0), *logs)
