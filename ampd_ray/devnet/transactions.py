"""Signed transactions of types 0 (with and without replay protection), 1 and 2.

Sources: EIP-155 (``v`` of type 0), EIP-2718 (types), EIP-2930 (access lists), EIP-1559 (fees).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from random import Random
from typing import Any, NamedTuple, TypeAlias

from ampd_ray.datasets.evm.hashing import RlpItem, keccak256, rlp_encode
from ampd_ray.devnet.calls import Account, Call

AccessList: TypeAlias = list[tuple[bytes, list[bytes]]]  # (address, storage keys)


class Kind(IntEnum):
    """Transaction types by their EIP-2718 number."""

    LEGACY = 0
    ACCESS_LIST = 1
    DYNAMIC_FEE = 2


class Terms(NamedTuple):
    """What the sender offers; fees in wei a gas."""

    nonce: int
    gas_limit: int
    tip: int
    base_fee: int  # of the block that takes the transaction

    @property
    def price(self) -> int:
        """What types 0 and 1 pay, and type 2 effectively."""
        return self.base_fee + self.tip

    @property
    def fee_cap(self) -> int:
        """``maxFeePerGas`` of type 2: room for the base fee to double."""
        return 2 * self.base_fee + self.tip


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed transaction in its consensus and in its JSON-RPC form (without its place in a block)."""

    kind: Kind
    hash: bytes
    raw: bytes
    nonce: int
    price: int  # effective, wei a gas
    fields: dict[str, Any]

    def json(self, index: int, block: dict[str, str]) -> dict[str, Any]:
        """The transaction as JSON-RPC shows it, at ``index`` of ``block`` (its hash and number, spelled)."""
        return self.fields | block | {"transactionIndex": hex(index)}


def hex_bytes(value: bytes) -> str:
    """JSON-RPC's spelling of bytes."""
    return "0x" + value.hex()


def draw(rng: Random, call: Call, account: Account, nonce: int, base_fee: int, chain_id: int) -> Transaction:
    """Sign ``call`` as a transaction of a random type and with a random tip."""
    terms = Terms(nonce, call.gas_used + rng.randrange(60_000), rng.randrange(1, 2_000_000_000), base_fee)
    kind = rng.choices((Kind.DYNAMIC_FEE, Kind.LEGACY, Kind.ACCESS_LIST), (5, 3, 2))[0]
    if kind is Kind.LEGACY:
        return sign_legacy(account, call, terms, chain_id if rng.random() < 0.8 else None)
    return sign_typed(kind, account, call, terms, chain_id, _access_list(rng, call))


def _access_list(rng: Random, call: Call) -> AccessList:
    """The called contract with up to two storage keys, or nothing."""
    if call.to is None or rng.random() < 0.5:
        return []
    return [(call.to, [rng.randrange(64).to_bytes(32, "big") for _ in range(rng.randrange(3))])]


def sign_legacy(account: Account, call: Call, terms: Terms, chain_id: int | None) -> Transaction:
    """Sign a type 0 transaction; without a ``chain_id`` it is valid on every chain, as before EIP-155."""
    items: list[RlpItem] = [terms.nonce, terms.price, terms.gas_limit, *_body(call)]
    replay_guard: list[RlpItem] = [] if chain_id is None else [chain_id, 0, 0]
    parity, r, s = _signature(account, rlp_encode([*items, *replay_guard]))
    v = parity + (27 if chain_id is None else 35 + 2 * chain_id)
    fields = {} if chain_id is None else {"chainId": hex(chain_id)}
    fields |= {"gasPrice": hex(terms.price), "v": hex(v), "r": hex(r), "s": hex(s)}
    return _transaction(Kind.LEGACY, account, call, terms, rlp_encode([*items, v, r, s]), fields)


def sign_typed(
    kind: Kind, account: Account, call: Call, terms: Terms, chain_id: int, access_list: AccessList
) -> Transaction:
    """Sign a transaction of type 1 or 2."""
    prefix = bytes([kind])
    fees: list[RlpItem] = [terms.price] if kind is Kind.ACCESS_LIST else [terms.tip, terms.fee_cap]
    items: list[RlpItem] = [chain_id, terms.nonce, *fees, terms.gas_limit, *_body(call), access_list]
    parity, r, s = _signature(account, prefix + rlp_encode(items))
    fields: dict[str, Any] = {"chainId": hex(chain_id), "gasPrice": hex(terms.price)}
    if kind is Kind.DYNAMIC_FEE:
        fields |= {"maxPriorityFeePerGas": hex(terms.tip), "maxFeePerGas": hex(terms.fee_cap)}
    fields["accessList"] = [
        {"address": hex_bytes(address), "storageKeys": [hex_bytes(key) for key in keys]}
        for address, keys in access_list
    ]
    fields |= {"yParity": hex(parity), "v": hex(parity), "r": hex(r), "s": hex(s)}
    return _transaction(kind, account, call, terms, prefix + rlp_encode([*items, parity, r, s]), fields)


def _body(call: Call) -> list[RlpItem]:
    return [call.to or b"", call.value, call.data]


def _signature(account: Account, payload: bytes) -> tuple[int, int, int]:
    """Parity, r and s of the account's signature over ``payload``."""
    signature = account.key.sign_recoverable(keccak256(payload), hasher=None)
    return signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")


def _transaction(
    kind: Kind, account: Account, call: Call, terms: Terms, raw: bytes, fields: dict[str, Any]
) -> Transaction:
    digest = keccak256(raw)
    common = {
        "type": hex(kind),
        "hash": hex_bytes(digest),
        "nonce": hex(terms.nonce),
        "gas": hex(terms.gas_limit),
        "from": hex_bytes(account.address),
        "to": hex_bytes(call.to) if call.to else None,
        "value": hex(call.value),
        "input": hex_bytes(call.data),
    }
    return Transaction(kind, digest, raw, terms.nonce, terms.price, common | fields)
