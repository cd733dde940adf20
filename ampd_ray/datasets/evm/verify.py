"""Do rows hash to what their header promises, and did the sender sign them? (data.md 9)

Works on rows alone, so that files can be verified years later. With the node's answers at hand (``raw``), it also
covers what no table stores: OP deposits, state roots beside a status, authorizations whose chain id does not fit.

What no level can see, as nothing in a block commits to it: ``total_difficulty``; ``log_index`` as long as it ascends;
the status of a receipt whose root was not stored; and Bor's state-sync transactions but for their hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from ampd_ray.datasets.evm.evidence import Evidence
from ampd_ray.datasets.evm.gaps import CHAIN_IDS, DEPOSITS, STATE_ROOTS, Gap, named, unsigned, unsupported
from ampd_ray.datasets.evm.hashing import keccak256, ordered_trie_root
from ampd_ray.datasets.evm.inline import DEPOSIT, Inline
from ampd_ray.datasets.evm.kinds import SET_CODE
from ampd_ray.datasets.evm.quirks import PLAIN, hashes_otherwise
from ampd_ray.datasets.evm.rows import Batch, batches
from ampd_ray.datasets.evm.rpc import BlockAndReceipts
from ampd_ray.datasets.evm.senders import sender_of
from ampd_ray.datasets.evm.verdicts import Check, Level, Result, Verdict

__all__ = ["Check", "Level", "Result", "Verdict", "verify_blocks"]

_ZERO = bytes(32)
_KNOWN = set(range(SET_CODE + 1))


def verify_blocks(
    tables: dict[str, pa.Table],
    raw: Sequence[BlockAndReceipts] | None = None,
    level: Level = Level.ROOTS,
    chain_id: int | None = None,
) -> list[Verdict]:
    """A verdict for each row of ``blocks``, in order, over the three tables of the same blocks; none at level off.

    ``raw`` are the answers that the rows were decoded from, one for each block. A chain that is known not to hash as
    Ethereum does is told by its ``chain_id``. Raises ValueError for blocks that do not ascend, and for transactions
    or logs whose block is not there.
    """
    if level is Level.OFF:
        return []
    if raw is not None and len(raw) != tables["blocks"].num_rows:
        raise ValueError(f"{len(raw)} answers for {tables['blocks'].num_rows} blocks")
    verdicts: list[Verdict] = []
    for batch in batches(tables):
        answers = None if raw is None else raw[batch.first : batch.first + len(batch.headers)]
        verdicts += _Trial(batch, answers, level, chain_id).verdicts()
    return verdicts


class _Mismatch(Exception):
    def __init__(self, check: Check, expected: str, computed: str) -> None:
        self.check = check
        self.expected = expected
        self.computed = computed


class _Trial:
    """A batch of blocks on trial, judged block by block."""

    def __init__(
        self, batch: Batch, answers: Sequence[BlockAndReceipts] | None, level: Level, chain_id: int | None
    ) -> None:
        self._evidence = Evidence(batch, Inline(batch, answers), chain_id)
        self._level = level
        self._plain = chain_id in PLAIN
        self._otherwise = hashes_otherwise(chain_id)
        self._excused: set[int] = set()  # transactions that the rows do not tell in full

    def verdicts(self) -> list[Verdict]:
        """One for each block."""
        return [self._verdict(block) for block in range(len(self._evidence.numbers))]

    def _verdict(self, block: int) -> Verdict:
        number, level = self._evidence.numbers[block], self._level
        checks = [self._block_hash, self._transactions_root, self._receipts_root]
        checks += [self._signatures, self._copies] if level is Level.FULL else [self._copies]
        gaps: list[Gap] = []
        try:
            for check in checks:
                gaps += check(block)
        except _Mismatch as found:
            return Verdict(number, Result.FAIL, level, found.check, found.expected, found.computed)
        if gaps:
            gap = gaps[0]
            return Verdict(number, gap.result, level, gap.check, gap.expected, gap.computed, gap.missing)
        return Verdict(number, Result.PASS, level)

    # -- the checks: each raises _Mismatch, or says what it could not see ---------------------------------------

    def _block_hash(self, block: int) -> list[Gap]:
        headers = self._evidence.headers
        _consistent(Check.BLOCK_HASH, headers.faults, block)
        if otherwise := self._hashed_otherwise(Check.BLOCK_HASH):
            return otherwise
        _demand(Check.BLOCK_HASH, self._evidence.hashes[block], keccak256(headers.values[block]))
        return []

    def _hashed_otherwise(self, check: Check) -> list[Gap]:
        """Why nobody can make this check on this chain."""
        missing = self._otherwise.get(check)
        return [] if missing is None else [Gap(check, missing, Result.UNSUPPORTED)]

    def _beyond(self, block: int, check: Check) -> list[Gap]:
        """Why a root of a block cannot be recomputed at all."""
        if otherwise := self._hashed_otherwise(check):
            return otherwise
        odd = {self._evidence.kinds[row] for row in self._evidence.rows(block)} - _KNOWN
        if odd and self._plain:  # else one spoiled type would keep a block's roots from being compared
            raise _Mismatch(check, "transactions of types 0 to 4", f"{named(odd)}, which this chain has none of")
        if foreign := odd - {DEPOSIT}:
            return [unsupported(foreign)]
        return [DEPOSITS] if odd and not self._evidence.inline.given else []

    def _transactions_root(self, block: int) -> list[Gap]:
        _consistent(Check.TRANSACTIONS_ROOT, self._evidence.transaction_faults, block)
        if beyond := self._beyond(block, Check.TRANSACTIONS_ROOT):
            return beyond
        expected = self._evidence.transactions_roots[block]
        root = ordered_trie_root([self._evidence.envelopes.values[row] for row in self._evidence.rows(block)])
        if root != expected and (lacking := self._evidence.lacking_chain_ids(block)):
            self._excused |= lacking
            return [Gap(Check.TRANSACTIONS_ROOT, CHAIN_IDS, expected=_hex(expected), computed=_hex(root))]
        _demand(Check.TRANSACTIONS_ROOT, expected, root)
        return []

    def _receipts_root(self, block: int) -> list[Gap]:
        _consistent(Check.RECEIPTS_ROOT, self._evidence.receipt_faults, block)
        if beyond := self._beyond(block, Check.RECEIPTS_ROOT):
            return beyond
        expected = self._evidence.receipts_roots[block]
        root = ordered_trie_root([self._evidence.receipts.values[row] for row in self._evidence.rows(block)])
        if root != expected and self._evidence.inline.given:
            root = ordered_trie_root(self._evidence.receipts_as_sent(block))
        elif root != expected and self._evidence.may_lack_state_roots(block):
            return [Gap(Check.RECEIPTS_ROOT, STATE_ROOTS, expected=_hex(expected), computed=_hex(root))]
        _demand(Check.RECEIPTS_ROOT, expected, root)
        return []

    def _copies(self, block: int) -> list[Gap]:
        _consistent(Check.COPIES, self._evidence.copy_faults, block)
        return []

    def _signatures(self, block: int) -> list[Gap]:
        """Hash and sender of each transaction; the sender of a deposit is part of what is hashed."""
        evidence, gaps = self._evidence, list[Gap]()
        for index, row in enumerate(evidence.rows(block)):
            known = evidence.kinds[row] in _KNOWN
            if row in self._excused or not (known or row in evidence.inline.envelopes):
                continue
            _demand(Check.TRANSACTION_HASH, evidence.tx_hashes[row], keccak256(evidence.envelopes.values[row]))
            if known:
                gaps += self._sender(row, index)
        return gaps

    def _sender(self, row: int, index: int) -> list[Gap]:
        r, s, parity, sender = self._evidence.signatures[row]
        if r == s == _ZERO:
            return [unsigned(index)]
        signer = sender_of(self._evidence.envelopes.signed(row), r, s, parity)
        if signer is None:
            raise _Mismatch(Check.SENDER, _hex(sender), f"transaction {index}: this is nobody's signature")
        _demand(Check.SENDER, sender, signer)
        return []


def _demand(check: Check, expected: bytes, computed: bytes) -> None:
    if expected != computed:
        raise _Mismatch(check, _hex(expected), _hex(computed))


def _consistent(check: Check, faults: Mapping[int, str], block: int) -> None:
    if block in faults:
        raise _Mismatch(check, "consistent rows", faults[block])


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
