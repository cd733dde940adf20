"""Blocks of the devnet: each computed from its parent and a source of randomness.

Blocks have the fields of the Prague fork: correct hashes, roots, blooms, gas sums and base fees, signed transactions
(types 0 to 2), logs, withdrawals, and now and then nothing at all. Only the state root is invented, as no state is
kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any, TypeAlias

import msgspec

from ampd_ray.datasets.evm.hashing import EMPTY_OMMERS, keccak256, ordered_trie_root, rlp_encode
from ampd_ray.devnet.calls import ACCOUNTS, HOLDERS, draw_call
from ampd_ray.devnet.receipts import Executed, bloom
from ampd_ray.devnet.transactions import Kind, draw, hex_bytes

GENESIS_TIME = 1_767_225_600  # 2026-01-01, Unix seconds
SECONDS_PER_BLOCK = 12
GAS_LIMIT = 30_000_000
GAS_TARGET = GAS_LIMIT // 2
GENESIS_BASE_FEE = 1_000_000_000  # wei
EMPTY_BLOCKS = 1 / 16  # share of blocks without transactions
NO_REQUESTS = sha256(b"").digest()  # EIP-7685

Fields: TypeAlias = dict[str, bytes | int]
"""Named values in the order in which RLP wants them."""

encode_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class DevBlock:
    """One block, its parts serialised so that a response is a join."""

    number: int
    hash: bytes
    timestamp: int  # Unix seconds
    base_fee: int  # wei a gas
    gas_used: int
    nonces: tuple[int, ...]  # of each account, after this block
    withdrawals: int  # made so far, this block's included
    header: bytes  # JSON object without its closing brace
    hashes: tuple[bytes, ...]  # of the transactions
    transactions: tuple[bytes, ...]  # JSON objects
    receipts: tuple[bytes, ...]  # JSON objects

    def json(self, *, full: bool) -> bytes:
        """Answer of ``eth_getBlockByNumber``: with transaction objects, or with their hashes only."""
        items = self.transactions if full else [encode_json(hex_bytes(digest)) for digest in self.hashes]
        return self.header + b',"transactions":[' + b",".join(items) + b"]}"

    def receipts_json(self) -> bytes:
        """Answer of ``eth_getBlockReceipts``."""
        return b"[" + b",".join(self.receipts) + b"]"


BEFORE_GENESIS = DevBlock(
    number=-1,
    hash=bytes(32),
    timestamp=GENESIS_TIME - SECONDS_PER_BLOCK,
    base_fee=GENESIS_BASE_FEE,
    gas_used=GAS_TARGET,  # keeps the base fee
    nonces=(0,) * len(ACCOUNTS),
    withdrawals=0,
    header=b"",
    hashes=(),
    transactions=(),
    receipts=(),
)


def genesis(extra: bytes) -> DevBlock:
    """Block 0, without transactions."""
    return _seal(BEFORE_GENESIS, [], [], extra)


def next_block(parent: DevBlock, rng: Random, *, txs: int, chain_id: int, extra: bytes) -> DevBlock:
    """Make the child of ``parent`` with about ``txs`` transactions; ``extra`` (≤ 32 bytes) goes into its header."""
    empty = txs == 0 or rng.random() < EMPTY_BLOCKS
    count = 0 if empty else rng.randint(1, 2 * txs - 1)
    withdrawals = [_withdrawal(parent.withdrawals + offset) for offset in range(rng.randrange(3))]
    return _seal(parent, _execute(parent, rng, count, chain_id), withdrawals, extra)


def next_base_fee(parent: DevBlock) -> int:
    """EIP-1559: up or down by at most an eighth, by how full the parent was."""
    change = parent.base_fee * abs(parent.gas_used - GAS_TARGET) // GAS_TARGET // 8
    return parent.base_fee + max(change, 1) if parent.gas_used > GAS_TARGET else parent.base_fee - change


def _execute(parent: DevBlock, rng: Random, count: int, chain_id: int) -> list[Executed]:
    """Draw up to ``count`` transactions, as many as the gas limit takes."""
    base_fee, nonces = next_base_fee(parent), list(parent.nonces)
    executed: list[Executed] = []
    gas = logs = 0
    for _ in range(count):
        index = rng.randrange(len(ACCOUNTS))
        account = ACCOUNTS[index]
        call = draw_call(rng, account.address)
        gas += call.gas_used
        if gas > GAS_LIMIT:
            break
        transaction = draw(rng, call, account, nonces[index], base_fee, chain_id)
        executed.append(Executed(transaction, call, account.address, gas, logs, bloom(call.logs)))
        nonces[index] += 1
        logs += len(call.logs)
    return executed


def _withdrawal(index: int) -> Fields:
    """EIP-4895: a validator's reward, in gwei."""
    return {"index": index, "validatorIndex": index % 64, "address": HOLDERS[index % 8], "amount": 32_000 + index}


def _header(parent: DevBlock, executed: Sequence[Executed], withdrawals: Sequence[Fields], extra: bytes) -> Fields:
    transactions_root = ordered_trie_root([item.transaction.raw for item in executed])
    return {
        "parentHash": parent.hash,
        "sha3Uncles": EMPTY_OMMERS,
        "miner": HOLDERS[0],
        "stateRoot": keccak256(b"state" + parent.hash + transactions_root),
        "transactionsRoot": transactions_root,
        "receiptsRoot": ordered_trie_root([item.consensus() for item in executed]),
        "logsBloom": bloom(log for item in executed for log in item.call.logs),
        "difficulty": 0,
        "number": parent.number + 1,
        "gasLimit": GAS_LIMIT,
        "gasUsed": _gas(executed),
        "timestamp": parent.timestamp + SECONDS_PER_BLOCK,
        "extraData": extra,
        "mixHash": keccak256(b"randao" + parent.hash),
        "nonce": bytes(8),
        "baseFeePerGas": next_base_fee(parent),
        "withdrawalsRoot": ordered_trie_root([rlp_encode(list(item.values())) for item in withdrawals]),
        "blobGasUsed": 0,
        "excessBlobGas": 0,
        "parentBeaconBlockRoot": keccak256(b"beacon" + parent.hash),
        "requestsHash": NO_REQUESTS,
    }


def _seal(parent: DevBlock, executed: Sequence[Executed], withdrawals: Sequence[Fields], extra: bytes) -> DevBlock:
    """Put a header on what was executed, and everything in its place."""
    header = _header(parent, executed, withdrawals, extra)
    encoded = rlp_encode(list(header.values()))
    digest = keccak256(encoded)
    place = {"blockHash": hex_bytes(digest), "blockNumber": hex(parent.number + 1)}
    shown = _spelled(header) | {
        "hash": hex_bytes(digest),
        "size": hex(_size(encoded, executed, withdrawals)),
        "uncles": [],
        "withdrawals": [_spelled(withdrawal) for withdrawal in withdrawals],
    }
    return DevBlock(
        number=parent.number + 1,
        hash=digest,
        timestamp=parent.timestamp + SECONDS_PER_BLOCK,
        base_fee=next_base_fee(parent),
        gas_used=_gas(executed),
        nonces=_nonces(parent.nonces, executed),
        withdrawals=parent.withdrawals + len(withdrawals),
        header=encode_json(shown)[:-1],
        hashes=tuple(item.transaction.hash for item in executed),
        transactions=tuple(encode_json(item.transaction.json(index, place)) for index, item in enumerate(executed)),
        receipts=tuple(encode_json(item.json(index, place)) for index, item in enumerate(executed)),
    )


def _gas(executed: Sequence[Executed]) -> int:
    return executed[-1].cumulative_gas if executed else 0


def _nonces(before: tuple[int, ...], executed: Sequence[Executed]) -> tuple[int, ...]:
    sent = Counter(item.sender for item in executed)
    return tuple(nonce + sent[account.address] for account, nonce in zip(ACCOUNTS, before, strict=True))


def _spelled(fields: Fields) -> dict[str, Any]:
    """The same fields as JSON-RPC spells them."""
    return {name: hex(value) if isinstance(value, int) else hex_bytes(value) for name, value in fields.items()}


def _size(header: bytes, executed: Sequence[Executed], withdrawals: Sequence[Fields]) -> int:
    """Length of the whole block's RLP; a typed transaction is a byte string in it, a legacy one a list."""
    transactions = sum(
        len(item.transaction.raw) if item.transaction.kind is Kind.LEGACY else _with_prefix(len(item.transaction.raw))
        for item in executed
    )
    uncles, paid = rlp_encode([]), rlp_encode([list(withdrawal.values()) for withdrawal in withdrawals])
    return _with_prefix(len(header) + _with_prefix(transactions) + len(uncles) + len(paid))


def _with_prefix(length: int) -> int:
    """Length of an RLP list or string of ``length`` bytes, its prefix included."""
    return length + 1 if length < 56 else length + 1 + (length.bit_length() + 7) // 8
