"""Transactions of all five types for anvil, signed here with explicit nonces, and a contract that emits logs.

Blobs are all zero, because then commitment and proofs are the point at infinity and need no trusted setup (which costs
10 s a blob). Anvil 1.7.1 computes the transactions root of a block with a blob transaction over its network form, blobs
included, so that such a block's root does not verify; everything else of it does.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import rlp
from eth_account import Account
from eth_utils.address import to_checksum_address

from ampd_ray.datasets.evm.hashing import keccak256
from ampd_ray.devnet.receipts import contract_address
from tests.fakes.anvil import Anvil

KINDS = (0, 1, 2, 3, 4)
BALANCE = 10**24  # wei
GWEI = 10**9
BLOB = bytes(131_072)
INFINITY = b"\xc0" + bytes(47)  # commitment to the zero polynomial, and the proof of each of its cells
CELLS = 128
BLOB_HASH = b"\x01" + sha256(INFINITY).digest()[1:]  # EIP-4844

TRANSFER = keccak256(b"Transfer(address,address,uint256)")
RUNTIME = bytes.fromhex(
    "365f5f37"  # copy the call data to memory
    "365fa0"  # log it without a topic
    f"43337f{TRANSFER.hex()}365fa3"  # and with three: Transfer, caller, block number
    f"4243337f{TRANSFER.hex()}365fa4"  # and with four: the timestamp too
    "5f5fa000"  # and one log that is empty
)
CREATION = bytes.fromhex(f"60{len(RUNTIME):02x}8060095f395ff3") + RUNTIME


class Sender:
    """One funded account of its own; the order of calls gives the nonces. ``contract`` emits four logs a call."""

    def __init__(self, anvil: Anvil, name: str = "sender") -> None:
        self._anvil = anvil
        self._name = name
        self._account = Account.from_key(keccak256(name.encode()))
        self._chain_id = int(anvil.call("eth_chainId"), 16)
        self._nonce = int(anvil.call("eth_getTransactionCount", self._account.address, "latest"), 16)
        anvil.call("anvil_setBalance", self._account.address, hex(BALANCE))
        self.contract = self._deploy()

    def send(self, kind: int) -> str:
        """Send the next transaction, of type ``kind``, and return its hash; it waits for a block."""
        return self._submit(self._common() | self._extra(kind))

    def grow(self, blocks: int, kinds: Sequence[int] = KINDS) -> list[str]:
        """Mine ``blocks`` blocks, each with one transaction of every kind; returns the hashes in order."""
        self._anvil.call("evm_setAutomine", False)
        hashes = []
        for _ in range(blocks):
            hashes += [self.send(kind) for kind in kinds]
            self._anvil.mine()
        return hashes

    def _deploy(self) -> str:
        address = contract_address(bytes.fromhex(self._account.address[2:]), self._nonce)
        self._submit({**self._common(), "to": b"", "value": 0, "data": CREATION, "gasPrice": 100 * GWEI})
        return to_checksum_address(address)

    def _submit(self, transaction: dict[str, Any]) -> str:
        raw = bytes(self._account.sign_transaction(transaction).raw_transaction)
        self._nonce += 1
        answer: str = self._anvil.call("eth_sendRawTransaction", "0x" + network_form(raw).hex())
        return answer

    def _common(self) -> dict[str, Any]:
        return {
            "chainId": self._chain_id,
            "nonce": self._nonce,
            "gas": 500_000,
            "value": self._nonce,
            "data": self._nonce.to_bytes(32, "big"),
        }

    def _extra(self, kind: int) -> dict[str, Any]:
        """What type ``kind`` has of its own."""
        access = [{"address": self.contract, "storageKeys": [f"0x{self._nonce:064x}"]}]
        if kind == 0:
            return {"to": self.contract, "gasPrice": 100 * GWEI}
        if kind == 1:
            return {"type": 1, "to": self.contract, "gasPrice": 100 * GWEI, "accessList": access}
        fees = {"to": self.contract, "maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": GWEI}
        if kind == 2:
            return {"type": 2, "accessList": access, **fees}
        if kind == 3:
            return {"type": 3, "maxFeePerBlobGas": GWEI, "blobVersionedHashes": [BLOB_HASH], **fees}
        return {"type": 4, "authorizationList": [self._authorization()], **fees}

    def _authorization(self) -> Any:
        """A fresh account lets the contract's code stand in for its own (EIP-7702)."""
        authority = Account.from_key(keccak256(f"{self._name} authority {self._nonce}".encode()))
        return authority.sign_authorization({"chainId": self._chain_id, "address": self.contract, "nonce": 0})


def network_form(raw: bytes) -> bytes:
    """How ``raw`` is sent: a blob transaction together with its blob, commitment and cell proofs (EIP-7594)."""
    if raw[0] != 3:
        return raw
    wrapped = [rlp.decode(raw[1:]), b"\x01", [BLOB], [INFINITY], [INFINITY] * CELLS]
    return b"\x03" + bytes(rlp.encode(wrapped))
