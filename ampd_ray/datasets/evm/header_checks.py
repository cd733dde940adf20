"""What a header says about all logs and receipts of its block: roots, bloom, gas (checks 2, 8 and 9 of data.md 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import gt

from ampd_ray.datasets.evm.blooms import NO_BLOOM, spelled_bloom
from ampd_ray.datasets.evm.findings import Findings, lower
from ampd_ray.datasets.evm.hashing import EMPTY_ROOT
from ampd_ray.datasets.evm.quirks import Rule, state_sync_hash
from ampd_ray.datasets.evm.rpc import RpcBlock, RpcGlance, RpcReceipt, RpcTransaction

_EMPTY_ROOT = "0x" + EMPTY_ROOT.hex()
_NOBODY = ("0x" + 40 * "0", "0X" + 40 * "0")


def says_empty(block: RpcBlock | RpcGlance) -> bool:
    """True if both roots are those of a block without transactions."""
    roots = (block.transactions_root, block.receipts_root)
    return roots == (_EMPTY_ROOT, _EMPTY_ROOT) or {lower(root) for root in roots} == {_EMPTY_ROOT}


class HeaderCheck:
    """Holds a block to what its header says, as far as ``rules`` demand it; ``found`` gets what contradicts.

    ``state_synced``: one transaction may be such that header and roots leave it out.
    """

    def __init__(self, block: RpcBlock, rules: frozenset[Rule], found: Findings, *, state_synced: bool) -> None:
        self._block = block
        self._state_synced = state_synced
        self._rules = rules
        self._found = found

    def run(self, transactions: Sequence[RpcTransaction], receipts: Sequence[RpcReceipt]) -> None:
        """Raises DataFault. Nearly nothing is to do for a block without transactions."""
        if not self._rules:
            return
        if not transactions:
            self._empty()
            return
        covered = self._covered(transactions, receipts)
        self._bloom(covered)
        self._gas(covered)

    def _empty(self) -> None:
        if Rule.EMPTY_ROOTS in self._rules and not says_empty(self._block):
            reason = "no transactions, but its roots are not those of an empty block: the node lost the body"
            self._found.fault(2, reason, Rule.EMPTY_ROOTS)
        if (self._block.logs_bloom, self._block.gas_used) != (NO_BLOOM, "0x0"):
            self._bloom([])
            self._gas([])

    def _covered(self, transactions: Sequence[RpcTransaction], receipts: Sequence[RpcReceipt]) -> Sequence[RpcReceipt]:
        """The receipts that the header's bloom and gas account for: all but a synthetic one."""
        if not self._state_synced or not any(tx.sender in _NOBODY and tx.to in _NOBODY for tx in transactions):
            return receipts
        spelled = lower(self._block.hash) or ""
        try:
            block_hash = bytes.fromhex(spelled.removeprefix("0x"))
        except ValueError:
            self._found.fault(1, f"hash {spelled} is not hex data")
        synthetic = "0x" + state_sync_hash(self._found.block, block_hash).hex()
        return [receipt for receipt in receipts if lower(receipt.transaction_hash) != synthetic]

    def _bloom(self, receipts: Sequence[RpcReceipt]) -> None:
        logs = [log for receipt in receipts for log in receipt.logs or ()]
        entries = {log.address or "" for log in logs}
        entries.update(chain.from_iterable(log.topics or () for log in logs))
        try:
            made, given = spelled_bloom(entries), bytes.fromhex((self._block.logs_bloom or "")[2:])
        except ValueError:
            self._found.fault(8, "logsBloom, or an address or topic of a log, is not hex data")
        if made == given:
            return
        if len(given) != len(made):
            self._found.fault(8, f"logsBloom has {len(given)} bytes")
        ours, theirs = int.from_bytes(made, "big"), int.from_bytes(given, "big")
        if theirs & ~ours and Rule.LOGS_COMPLETE in self._rules:
            reason = "the logs do not make the header's logsBloom: logs are missing"
            self._found.fault(8, reason, Rule.LOGS_COMPLETE)
        if ours & ~theirs and Rule.LOGS_KNOWN in self._rules:
            self._found.fault(8, "the header's logsBloom does not know all logs", Rule.LOGS_KNOWN)

    def _gas(self, receipts: Sequence[RpcReceipt]) -> None:
        if Rule.GAS not in self._rules:
            return
        spelled = [receipt.cumulative_gas_used for receipt in receipts]
        field = "cumulativeGasUsed of receipt"
        used = [self._found.quantity(9, gas, f"{field} {index}") for index, gas in enumerate(spelled)]
        if any(map(gt, used, used[1:])):
            self._found.fault(9, "cumulativeGasUsed falls", Rule.GAS)
        total, last = self._found.quantity(9, self._block.gas_used, "gasUsed"), used[-1] if used else 0
        if last != total:
            self._found.fault(9, f"the receipts use {last} gas, the header {total}", Rule.GAS)
