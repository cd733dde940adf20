"""Receipts of the devnet, in their consensus and in their JSON-RPC form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ampd_ray.datasets.evm.hashing import bloom_of, keccak256, rlp_encode
from ampd_ray.devnet.calls import Call, Log
from ampd_ray.devnet.transactions import Kind, Transaction, hex_bytes


@dataclass(frozen=True, slots=True)
class Executed:
    """A transaction with what it did; ``cumulative_gas`` and ``first_log`` count through the block."""

    transaction: Transaction
    call: Call
    sender: bytes
    cumulative_gas: int
    first_log: int
    bloom: bytes

    def consensus(self) -> bytes:
        """The receipt as the receipts root commits to it (EIP-2718)."""
        logs = [(log.address, log.topics, log.data) for log in self.call.logs]
        receipt = rlp_encode([int(self.call.succeeds), self.cumulative_gas, self.bloom, logs])
        kind = self.transaction.kind
        return receipt if kind is Kind.LEGACY else bytes([kind]) + receipt

    def json(self, index: int, block: dict[str, str]) -> dict[str, Any]:
        """The receipt as JSON-RPC shows it, at ``index`` of ``block`` (its hash and number, spelled)."""
        place = {
            "transactionHash": self.transaction.fields["hash"],
            "transactionIndex": hex(index),
            **block,
        }
        created = None if self.call.to else contract_address(self.sender, self.transaction.nonce)
        return {
            "type": hex(self.transaction.kind),
            "status": hex(self.call.succeeds),
            "from": hex_bytes(self.sender),
            "to": hex_bytes(self.call.to) if self.call.to else None,
            "contractAddress": hex_bytes(created) if created else None,
            "gasUsed": hex(self.call.gas_used),
            "cumulativeGasUsed": hex(self.cumulative_gas),
            "effectiveGasPrice": hex(self.transaction.price),
            "logsBloom": hex_bytes(self.bloom),
            "logs": [_log(log, self.first_log + offset, place) for offset, log in enumerate(self.call.logs)],
            **place,
        }


def bloom(logs: Iterable[Log]) -> bytes:
    """The bloom of ``logs``: 256 bytes."""
    return bloom_of(entry for log in logs for entry in (log.address, *log.topics))


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Where the contract lands that ``sender`` creates with its transaction ``nonce``."""
    return keccak256(rlp_encode([sender, nonce]))[12:]


def _log(log: Log, log_index: int, place: dict[str, str]) -> dict[str, Any]:
    return {
        "address": hex_bytes(log.address),
        "topics": [hex_bytes(topic) for topic in log.topics],
        "data": hex_bytes(log.data),
        "logIndex": hex(log_index),
        "removed": False,
        **place,
    }
